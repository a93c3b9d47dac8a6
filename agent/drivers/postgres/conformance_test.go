package postgres

import (
	"testing"

	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/drivers/driverstest"
)

func TestTheDriverConforms(t *testing.T) {
	driverstest.Run(t, func(t *testing.T) drivers.Driver { return standing(t) })
}
