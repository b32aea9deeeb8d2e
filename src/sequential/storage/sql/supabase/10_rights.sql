-- Nobody gets at the tables through the data API: the schema is not exposed there, anon and
-- authenticated have no rights in it, and should somebody grant them some, row level security
-- without a policy shows them no row. The functions run with the rights of the owner, for whom
-- none of this holds.

do $$
declare
    stored regclass;
begin
    for stored in
        select oid::regclass from pg_class
        where relnamespace = current_schema()::regnamespace and relkind = 'r'
            and not relrowsecurity  -- or it would wait for all who use the table, again
    loop
        execute format('alter table %s enable row level security', stored);
    end loop;
end
$$;

revoke all on schema {schema} from public, anon, authenticated;
revoke all on all tables in schema {schema} from public, anon, authenticated;
revoke all on all sequences in schema {schema} from public, anon, authenticated;
revoke all on all functions in schema {schema} from public, anon, authenticated;
