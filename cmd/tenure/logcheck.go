package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/eventnode"
	"github.com/tenure-dev/tenure/domain"
)

func logCheckCommand() *cobra.Command {
	c := &cobra.Command{Use: "check", Short: "Verify an embedded event store's directory, while nobody runs on it",
		Long: "Reads everything in DIR/log and says whether it is whole: each file's checksums, each event, gapless positions and\n" +
			"revisions, indexes that agree with the events, and the end that the log must have. Nothing is changed. Each damage is a\n" +
			"line, with the file, the positions and the stream as far as they are known.\n\n" +
			"Exit codes: 0 all is well; 1 there is damage: restore the directory from a backup; 2 a process has the directory; 4 there is\n" +
			"no event log in it.",
		Args: cobra.NoArgs, RunE: runLogCheck}
	addData(c.Flags(), "directory; the events are in its directory log")
	addOutput(c.Flags(), "table or json")
	return c
}

// checked is a report as -o json writes it.
type checked struct {
	Events  int      `json:"events"`
	Streams int      `json:"streams"`
	Removed int      `json:"removed"`
	Bytes   int64    `json:"bytes"`
	End     uint64   `json:"end"`
	Muted   int      `json:"muted"`
	Damages []string `json:"damages"`
}

func runLogCheck(cmd *cobra.Command, _ []string) error {
	format, err := checkOutput(cmd, "table", "json")
	if err != nil {
		return err
	}
	dir := nodeDir(text(cmd, "data"))
	report, err := eventnode.Check(cmd.Context(), dir)
	switch {
	case errors.Is(err, eventnode.ErrInUse):
		return taken("--data: %s", err)
	case errors.Is(err, eventnode.ErrNoLog):
		return coded(domain.CodeNotFound, "--data: %s", err)
	case err != nil:
		return err
	}
	out := checked{report.Events, report.Streams, report.Removed, report.Bytes, report.End, report.Muted, []string{}}
	for _, d := range report.Damages {
		out.Damages = append(out.Damages, d.String())
	}
	if format == "json" {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(out)
	} else {
		err = printChecked(cmd, out)
	}
	if err == nil && len(out.Damages) > 0 {
		err = coded(domain.CodeInternal, "%s is damaged", dir)
	}
	return err
}

func printChecked(cmd *cobra.Command, c checked) (err error) {
	if len(c.Damages) == 0 {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "whole: %d events in %d streams, %d bytes, up to position %d; %d scavenged; %d metadata events that say nothing\n",
			c.Events, c.Streams, c.Bytes, c.End, c.Removed, c.Muted)
	}
	for _, damage := range c.Damages {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), oneLine(damage))
	}
	return err
}
