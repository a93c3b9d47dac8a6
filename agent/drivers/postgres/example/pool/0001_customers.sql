-- Pool: all tenants share these tables. Each has the tenant column, and every key and foreign key begins with it, so
-- that no constraint tells one tenant of another's rows. Row-level security, the column's default and the grants are
-- added by the driver. Ids are random: a shared sequence would tell how many rows others write.
CREATE TABLE customers (
    tenant     text NOT NULL,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    name       text NOT NULL,
    email      text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, email)
);
