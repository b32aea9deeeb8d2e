"""Azure Functions, programming model 2: all requests, and a timer for what is due."""

import azure.functions as func

from sequential.edge import Edge, azure

edge = Edge()
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)  # the token decides
app.route("{*path}")(azure.handler(edge))
app.timer_trigger("timer", "0 * * * * *")(azure.timer(edge))
