-- Small records of the server: tokens, schedules, its audit log. Keys are compared byte by byte, which
-- is the order of code points.

create table documents (
    collection text collate "C" not null,
    key text collate "C" not null,
    value text not null,
    version bigint not null,
    primary key (collection, key)
);
