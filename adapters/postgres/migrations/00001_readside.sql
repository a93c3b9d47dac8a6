-- +goose Up
create table tenure.leases (
	grp   text collate "C" primary key,
	owner text not null, -- empty when nobody's
	epoch bigint not null,
	beat  bigint not null
);

create table tenure.checkpoints (
	grp         text collate "C" primary key,
	lease_epoch bigint not null, -- of the only lease that may move it
	position    bigint not null, -- commit position of the last event in the rows; -1 before the first
	log_number  bigint not null, -- the epoch of the log that the position belongs to
	log_id      text not null
);

create table tenure.registry (
	projection text collate "C" not null,
	version    integer not null,
	generation bigint not null,
	grp        text collate "C" not null,
	table_name text not null unique,
	serving    boolean not null, -- whole at the group's checkpoint
	primary key (projection, version, generation)
);

create unique index registry_serving on tenure.registry (projection) where serving;

create table tenure.parked (
	grp        text collate "C" not null,
	projection text collate "C" not null,
	version    integer not null,
	id         text collate "C" not null, -- SHA-256 of the key, which may be too long for an index: perhaps that is why it is here
	key        text collate "C" not null,
	stream     text not null,
	revision   bigint not null, -- of the first event that is not in the row
	position   bigint not null, -- of that event
	error      text not null,
	parked_at  timestamptz not null default now(),
	primary key (grp, projection, version, id)
);

-- advance moves a checkpoint by compare-and-set, or ends the transaction: a pipeline cannot look at a row count.
-- +goose StatementBegin
create function tenure.advance(which text, held bigint, was bigint, becomes bigint, number bigint, id text) returns void
language plpgsql as $$
begin
	update tenure.checkpoints set position = becomes, log_number = number, log_id = id
	where grp = which and lease_epoch = held and position = was;
	if not found then
		raise exception 'the lease or the checkpoint has moved on' using errcode = 'TN001';
	end if;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function tenure.advance(text, bigint, bigint, bigint, bigint, text);
drop table tenure.parked, tenure.registry, tenure.checkpoints, tenure.leases;
