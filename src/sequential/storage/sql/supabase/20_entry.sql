-- The one function that the data API shows: it calls the others. It is in the schema that every
-- project exposes, so that no setting has to be changed.
--
-- PostgREST applies the time limit to the whole request, in place of the 8 seconds that Supabase
-- gives its roles; the client waits a little longer, so that it learns how the request ended.

create or replace function public.{schema}_call(operation text, arguments jsonb) returns json
language plpgsql security definer
set search_path = pg_catalog, pg_temp set statement_timeout = '55s' as $$
declare
    answer json;
begin
    if operation !~ '^[a-z]' then  -- what begins with "_" is a part of others
        raise undefined_function using message = concat('there is no operation ', operation);
    end if;
    execute format('select {schema}.%I($1)', operation) into answer using arguments;
    if operation = 'about' then
        return answer::jsonb || '{"entry": "{digest}"}';
    end if;
    return answer;
end
$$;

-- Supabase lets anon and authenticated execute whatever is made in this schema.
revoke execute on function public.{schema}_call(text, jsonb) from public, anon, authenticated;
grant execute on function public.{schema}_call(text, jsonb) to service_role;

notify pgrst, 'reload schema';
