package commandstest_test

import (
	"testing"

	"github.com/tenure-dev/tenure/commands/commandstest"
)

func TestTheDoubleKeepsTheContract(t *testing.T) { commandstest.Contract(t, &commandstest.Log{}, "") }
