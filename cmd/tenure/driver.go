package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/tenure-dev/tenure/agent"
	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/drivers/postgres"
	"github.com/tenure-dev/tenure/agent/drivers/simulated"
	"github.com/tenure-dev/tenure/domain"
)

// The driver options that an agent keeps in its settings.
const (
	optionPostgres  = "postgres"  // URL of the plane's server, as a superuser
	optionVendor    = "vendor"    // directory of the vendor's SQL files; the example's where absent
	optionAdvertise = "advertise" // host:port that tenants are told; that of the URL where absent
)

// openDriver makes the driver of an agent whose directory is dir.
func openDriver(ctx context.Context, name, dir string, options map[string]string, logger *slog.Logger) (drivers.Driver, error) {
	switch name {
	case "postgres":
		return openPostgres(ctx, dir, options, logger)
	case "simulated":
		d, err := simulated.Open(simulated.Options{Dir: dir})
		if err != nil {
			return nil, usage("--data: %s", err)
		}
		return d, nil
	default:
		return nil, usage("--driver must be postgres or simulated")
	}
}

func openPostgres(ctx context.Context, dir string, options map[string]string, logger *slog.Logger) (drivers.Driver, error) {
	if options[optionPostgres] == "" {
		return nil, usage("--postgres is missing: the URL of the data plane's server, as a superuser")
	}
	o := postgres.Options{URL: options[optionPostgres], Logger: logger}
	if vendor := options[optionVendor]; vendor != "" {
		if info, err := os.Stat(vendor); err != nil || !info.IsDir() {
			return nil, usage("--vendor: %s is not a directory", vendor)
		}
		o.VendorSQL = os.DirFS(vendor)
	}
	if address := options[optionAdvertise]; address != "" {
		host, port, err := net.SplitHostPort(address)
		if err == nil {
			o.AdvertiseHost = host
			o.AdvertisePort, err = strconv.Atoi(port)
		}
		if err != nil {
			return nil, usage("--advertise must be host:port")
		}
	}
	var err error
	if o.PlaneKey, err = agent.EnsurePlaneKey(dir); err != nil {
		return nil, err
	}
	d, err := postgres.Open(ctx, o)
	if err != nil {
		return nil, planeError(err)
	}
	return d, nil
}

// planeError is why a driver could not be opened, in the house's codes.
func planeError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	text := err.Error()
	var e *drivers.Error
	if errors.As(err, &e) && e.Err != nil {
		text = fmt.Sprintf("%s: %s", e.Code, e.Err)
	}
	switch class, _ := drivers.ClassOf(err); class {
	case drivers.PlaneDown, drivers.Transient:
		return coded(domain.CodeUnavailable, "the data plane is away: %s", text)
	case drivers.User, drivers.Quota:
		return usage("the data plane cannot be used: %s", text)
	default:
		return coded(domain.CodeInternal, "the data plane cannot be made ready: %s", text)
	}
}
