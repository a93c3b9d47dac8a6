CREATE TABLE projects (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer_id uuid NOT NULL REFERENCES customers (id),
    title       text NOT NULL
);
CREATE INDEX projects_customer ON projects (customer_id);
