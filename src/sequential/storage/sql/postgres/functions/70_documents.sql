-- Documents. A change looks at the version and writes in one statement, which waits for others that
-- change the same document and then looks again.

-- Create or replace a document; the answer is its version. `if_version`: null for any, 0 for none.
create or replace function put_document(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    place text := arguments->>'collection';
    name text := arguments->>'key';
    wanted bigint := (arguments->>'if_version')::bigint;
    new_version bigint;
begin
    if not _is_new(arguments) then
        return (select to_json(r.answer) from requests r where r.id = arguments->>'request');
    end if;
    if wanted is null then
        insert into documents as old values (place, name, arguments->>'value', 1)
        on conflict (collection, key) do update set
            value = excluded.value,
            version = old.version + 1
        returning version into new_version;
    elsif wanted = 0 then
        insert into documents values (place, name, arguments->>'value', 1)
        on conflict do nothing
        returning version into new_version;
    else
        update documents d set value = arguments->>'value', version = d.version + 1
        where d.collection = place and d.key = name and d.version = wanted
        returning d.version into new_version;
    end if;
    if new_version is null then
        perform _refuse('409', 'document_changed', coalesce((
            select d.version from documents d where d.collection = place and d.key = name
        ), 0)::text);
    end if;
    update requests r set answer = new_version where r.id = arguments->>'request';
    return to_json(new_version);
end
$$;

create or replace function get_document(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return (
        select json_build_array(d.key, d.value, d.version) from documents d
        where d.collection = arguments->>'collection' and d.key = arguments->>'key'
    );
end
$$;

create or replace function delete_document(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    removed bigint;
begin
    if not _is_new(arguments) then
        return (select to_json(r.answer > 0) from requests r where r.id = arguments->>'request');
    end if;
    delete from documents d
    where d.collection = arguments->>'collection' and d.key = arguments->>'key';
    get diagnostics removed = row_count;
    update requests r set answer = removed where r.id = arguments->>'request';
    return to_json(removed > 0);
end
$$;

-- At most `limit` documents behind the key `after`, in ascending or (`newest`) descending order.
create or replace function list_documents(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off
set plan_cache_mode = force_custom_plan as $$
declare
    place text := arguments->>'collection';
    behind text := arguments->>'after';
    most bigint := (arguments->>'limit')::bigint;
begin
    if (arguments->>'newest')::boolean then
        return (
            select json_agg(json_build_array(p.key, p.value, p.version) order by p.key desc)
            from (
                select d.key, d.value, d.version from documents d
                where d.collection = place and (behind is null or d.key < behind)
                order by d.key desc limit most
            ) p
        );
    end if;
    return (
        select json_agg(json_build_array(p.key, p.value, p.version) order by p.key)
        from (
            select d.key, d.value, d.version from documents d
            where d.collection = place and (behind is null or d.key > behind)
            order by d.key limit most
        ) p
    );
end
$$;

-- Remove the documents with smaller keys; the answer is how many there were.
create or replace function prune_documents(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    removed bigint;
begin
    if not _is_new(arguments) then
        return (select to_json(r.answer) from requests r where r.id = arguments->>'request');
    end if;
    delete from documents d
    where d.collection = arguments->>'collection' and d.key < arguments->>'before';
    get diagnostics removed = row_count;
    update requests r set answer = removed where r.id = arguments->>'request';
    return to_json(removed);
end
$$;
