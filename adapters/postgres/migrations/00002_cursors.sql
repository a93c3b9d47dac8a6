-- +goose Up
create table tenure.cursors (
	name  text collate "C" primary key,
	place jsonb not null
);

-- +goose Down
drop table tenure.cursors;
