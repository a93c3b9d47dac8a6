package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// classify gives a failure its class and code. What has them already keeps them; an ended context stays what it is, which
// drivers.ClassOf calls transient.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var done *drivers.Error
	if errors.As(err, &done) || errors.Is(err, drivers.ErrNoTenant) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	class, code := classOf(err)
	return &drivers.Error{Class: class, Code: code, Err: err}
}

func classOf(err error) (drivers.Class, string) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return classOfState(pg)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &connect), errors.As(err, &network):
		return drivers.PlaneDown, "unreachable"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), strings.Contains(err.Error(), "conn closed"):
		return drivers.PlaneDown, "connection_lost"
	}
	return drivers.Bug, "unexpected"
}

// classOfState goes by SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
func classOfState(pg *pgconn.PgError) (drivers.Class, string) {
	switch pg.Code {
	case "57P01", "57P02", "57P03":
		return drivers.PlaneDown, "shutting_down"
	case "25006":
		return drivers.PlaneDown, "read_only" // a standby, in the middle of a fail-over
	case "53100":
		return drivers.Quota, "disk_full"
	case "53400":
		return drivers.Quota, "configuration_limit"
	case "53200":
		return drivers.Transient, "out_of_memory"
	case "53300":
		return drivers.Transient, "too_many_connections"
	case "40001", "40P01":
		return drivers.Transient, "serialization"
	case "55006", "55P03":
		return drivers.Transient, "in_use"
	case "57014":
		return drivers.Transient, "cancelled"
	case "28000", "28P01":
		return drivers.Bug, "admin_refused"
	case "42501":
		return drivers.Bug, "admin_not_allowed"
	case "XX000":
		if strings.Contains(pg.Message, "concurrently") { // tuple concurrently updated, deleted: from the catalogs
			return drivers.Transient, "concurrent_change"
		}
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08":
		return drivers.PlaneDown, "connection_lost"
	case "53":
		return drivers.Transient, "no_resources"
	}
	return drivers.Bug, "sql_" + strings.ToLower(pg.Code)
}
