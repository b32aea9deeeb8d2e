local id, number = take(), take()
expect_run(id)
drop_call(id, number)
return { 'ok' }
