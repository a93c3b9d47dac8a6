CREATE TABLE invoices (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    number       text NOT NULL UNIQUE,
    customer_id  uuid NOT NULL REFERENCES customers (id),
    project_id   uuid REFERENCES projects (id),
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    issued_on    date NOT NULL DEFAULT current_date
);
CREATE INDEX invoices_customer ON invoices (customer_id);
CREATE INDEX invoices_project ON invoices (project_id);
