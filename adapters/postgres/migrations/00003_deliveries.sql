-- +goose Up
-- What sinks have tried lately. It is for people to look at: nothing rests on it, and it may be deleted.
create table tenure.deliveries (
	id       bigint generated always as identity primary key,
	sink     text collate "C" not null,
	event_id text not null,
	type     text not null,
	stream   text not null,
	revision bigint not null,
	attempt  integer not null, -- from 1
	started  timestamptz not null,
	took     bigint not null, -- µs
	outcome  text not null,
	code     text not null, -- empty when delivered
	status   integer not null -- of HTTP; 0 for none
);

create index deliveries_sink on tenure.deliveries (sink, id desc);

-- +goose Down
drop table tenure.deliveries;
