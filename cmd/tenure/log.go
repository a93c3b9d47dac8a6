package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

func logCommand() *cobra.Command {
	return group("log", "Look at the event log itself, copy it, back it up", logReadCommand(), logTailCommand(), logScavengeCommand(), logCheckCommand(),
		logBackupCommand(), logVerifyCommand(), logRestoreCommand(), logCopyCommand())
}

// allStream stands for the whole log.
const allStream = "$all"

// addEventStore adds the flags that say where the log is.
func addEventStore(flags *pflag.FlagSet) {
	addData(flags, "directory of a running tenure dev, for its event store")
	flags.String("eventstore", "", "address of the event store, such as esdb://127.0.0.1:2113?tls=false")
}

// logAddress is the address that the flags name.
func logAddress(cmd *cobra.Command) (string, error) {
	if address := text(cmd, "eventstore"); address != "" {
		return address, nil
	}
	saved, found, err := readClientFile(text(cmd, "data"))
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", usage("--data: no tenure dev has run on %s; give it, or --eventstore", text(cmd, "data"))
	}
	return saved.EventStore, nil
}

// withLog opens the log that the flags name, and closes it after use.
func withLog(cmd *cobra.Command, use func(context.Context, *eventstore.Log) error) error {
	address, err := logAddress(cmd)
	if err != nil {
		return err
	}
	return withLogAt(cmd, "--eventstore", address, use)
}

// withLogAt opens the log at an address that a flag gave.
func withLogAt(cmd *cobra.Command, flag, address string, use func(context.Context, *eventstore.Log) error) (err error) {
	var logger *slog.Logger // an error is one line, unless more is asked for
	if cmd.Flags().Changed("log-level") {
		if logger, err = loggerOf(cmd); err != nil {
			return err
		}
	}
	ctx := cmd.Context()
	log, err := eventstore.Open(ctx, eventstore.Config{URL: address, Logger: logger})
	if domain.CodeOf(err) == domain.CodeInvalid {
		return usage("%s: %s", flag, err)
	}
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = log.Close(end)
	}()
	return use(ctx, log)
}

// printer writes events as they come.
type printer struct {
	w      io.Writer
	format string
	begun  bool
}

// widths fit our own streams and types; what is longer pushes its line to the right.
const eventLine = "%-8v  %-10v  %-44s  %-32s  %-27s  %s\n"

func (p *printer) print(e domain.Recorded) error {
	if p.format == "json" {
		return json.NewEncoder(p.w).Encode(eventOf(e))
	}
	if !p.begun {
		p.begun = true
		fmt.Fprintf(p.w, eventLine, "REVISION", "POSITION", "STREAM", "TYPE", "TIME", "DATA")
	}
	_, err := fmt.Fprintf(p.w, eventLine, e.Revision, e.Commit, printable(e.Stream), printable(e.Type), e.Created.Format(timeForm), printable(dataText(e.Data)))
	return err
}

// timeForm is the log's own form of a moment: RFC 3339, to the microsecond.
const timeForm = "2006-01-02T15:04:05.000000Z07:00"

// event is an event as -o json writes it.
type event struct {
	Stream   string          `json:"stream"`
	Revision int64           `json:"revision"`
	Position uint64          `json:"position"`
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Time     string          `json:"time"`
	Data     json.RawMessage `json:"data"`
	Metadata json.RawMessage `json:"metadata"`
}

func eventOf(e domain.Recorded) event {
	data := json.RawMessage(e.Data)
	if !json.Valid(data) {
		data, _ = json.Marshal(dataText(e.Data)) // a string never fails
	}
	return event{e.Stream, e.Revision, e.Commit, e.EventID, e.Type, e.Created.Format(timeForm), data, e.Encode()}
}

// dataText is a payload on one line; what is no text only by its size.
func dataText(data []byte) string {
	if !utf8.Valid(data) {
		return fmt.Sprintf("(%d bytes)", len(data))
	}
	return string(data)
}
