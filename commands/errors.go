package commands

import (
	"errors"

	"github.com/tenure-dev/tenure/domain"
)

// coded gives err as a coded error: its own, or internal.
func coded(err error) error {
	var e *domain.Error
	if errors.As(err, &e) {
		return err
	}
	return internal(err)
}

func internal(cause error) error {
	return &domain.Error{Code: domain.CodeInternal, Message: "the command could not be carried out", Cause: cause}
}
