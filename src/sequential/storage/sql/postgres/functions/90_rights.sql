-- What is installed here, and who may use it.

create or replace function about(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return (
        select json_build_object(
            'version', i.version,
            'functions', i.functions,
            'isolation', current_setting('transaction_isolation')
        ) from installation i
    );
end
$$;

-- Nobody may call any of this unless the owner grants it; whoever might call `about` before may
-- call the functions that are new as well.
do $$
declare
    function record;
    grantee regrole;
begin
    for function in
        select p.oid::regprocedure as name, starts_with(p.proname, '_') as is_part
        from pg_proc p
        where p.pronamespace = current_schema()::regnamespace
            and p.proowner = current_user::regrole
    loop
        execute format('revoke execute on function %s from public', function.name);
        for grantee in
            select distinct a.grantee::regrole
            from pg_proc p, aclexplode(p.proacl) a
            where p.pronamespace = current_schema()::regnamespace and p.proname = 'about'
                and a.grantee not in (0, p.proowner)
        loop
            if not function.is_part then
                execute format('grant execute on function %s to %s', function.name, grantee);
            end if;
        end loop;
    end loop;
end
$$;
