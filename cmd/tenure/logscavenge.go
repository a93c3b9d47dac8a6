package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenure-dev/tenure/adapters/eventnode/operations"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

func logScavengeCommand() *cobra.Command {
	c := &cobra.Command{Use: "scavenge", Short: "Have the event store give up what nobody can read any more",
		Long: "Starts a scavenge: events that $tb, $maxCount, $maxAge, a delete or a tombstone hides are removed for ever, a stream's last\n" +
			"event excepted, and the space is given back. The event store goes on meanwhile. The command waits for the end;\n" +
			"Ctrl-C, or --no-wait, leaves the scavenge running. --stop ends it early: what it has removed stays removed.",
		Args: cobra.NoArgs, RunE: runLogScavenge}
	addEventStore(c.Flags())
	c.Flags().Bool("no-wait", false, "end as soon as it has begun")
	c.Flags().String("stop", "", "end the scavenge of this id instead")
	return c
}

func runLogScavenge(cmd *cobra.Command, _ []string) error {
	address, err := logAddress(cmd)
	if err != nil {
		return err
	}
	conn, err := eventstore.Dial(address)
	if domain.CodeOf(err) == domain.CodeInvalid {
		return usage("--eventstore: %s", err)
	} else if err != nil {
		return err
	}
	defer conn.Close()
	out := cmd.OutOrStdout()
	if id := text(cmd, "stop"); id != "" {
		resp, err := operations.StopScavenge(cmd.Context(), conn, &operations.StopScavengeReq{Options: &operations.StopScavengeReq_Options{ScavengeId: id}})
		if err != nil {
			return scavengeError(err)
		}
		fmt.Fprintln(out, "stopped", printable(resp.ScavengeId))
		return nil
	}
	resp, err := operations.StartScavenge(cmd.Context(), conn, &operations.StartScavengeReq{Options: &operations.StartScavengeReq_Options{ThreadCount: 1}})
	if err != nil {
		return scavengeError(err)
	}
	word := "started"
	if resp.ScavengeResult == operations.ScavengeResp_InProgress {
		word = "already in progress:"
	}
	fmt.Fprintln(out, word, printable(resp.ScavengeId))
	if wait, _ := cmd.Flags().GetBool("no-wait"); wait {
		return nil
	}
	ended, err := eventstore.AwaitScavenge(cmd.Context(), conn, resp.ScavengeId)
	switch {
	case errors.Is(cmd.Context().Err(), context.Canceled):
		return nil
	case err != nil:
		return scavengeError(err)
	}
	return reportScavenge(cmd, ended)
}

// reportScavenge prints what the event store has written about the end of a scavenge.
func reportScavenge(cmd *cobra.Command, data []byte) error {
	var end struct {
		Result    string `json:"result"`
		Error     string `json:"error"`
		TimeTaken string `json:"timeTaken"`
		Saved     int64  `json:"spaceSaved"`
	}
	if err := json.Unmarshal(data, &end); err != nil {
		return coded(domain.CodeInternal, "the event store says of the scavenge: %s", dataText(data))
	}
	if end.Result != "Success" {
		return coded(domain.CodeInternal, "the scavenge has ended: %s %s", end.Result, end.Error)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "done in %s, %d bytes of events removed\n", printable(end.TimeTaken), end.Saved)
	return err
}

func scavengeError(err error) error {
	code := domain.CodeInternal
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		code = domain.CodeUnavailable
	case codes.NotFound:
		code = domain.CodeNotFound
	case codes.Unauthenticated:
		code = domain.CodeUnauthenticated
	case codes.PermissionDenied:
		code = domain.CodeForbidden
	case codes.Unimplemented:
		return coded(domain.CodeInvalid, "this event store takes no scavenges over gRPC")
	}
	return coded(code, "the event store says: %s", status.Convert(err).Message())
}
