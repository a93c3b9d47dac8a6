CREATE TABLE invoices (
    tenant       text NOT NULL,
    id           uuid NOT NULL DEFAULT gen_random_uuid(),
    number       text NOT NULL,
    customer_id  uuid NOT NULL,
    project_id   uuid,
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    issued_on    date NOT NULL DEFAULT current_date,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, number),
    FOREIGN KEY (tenant, customer_id) REFERENCES customers (tenant, id),
    FOREIGN KEY (tenant, project_id) REFERENCES projects (tenant, id)
);
CREATE INDEX invoices_customer ON invoices (tenant, customer_id);
CREATE INDEX invoices_project ON invoices (tenant, project_id);
