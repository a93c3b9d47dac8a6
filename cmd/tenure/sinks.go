package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func sinksCommand() *cobra.Command {
	// status is what a change shows; the lists are read for show alone.
	status := kind{
		one: "sink", many: "sinks", key: "name", name: "NAME",
		fields: `name target phase running lagEvents lagSeconds inFlight heldStreams parkedCount lastSuccess lastFailureCode failingSince
			oldest { stream revision eventId } openRedeliveries revision`,
		columns: []column{at("NAME", "name"), at("TARGET", "target"), at("PHASE", "phase"), at("LAG", "lagEvents"), {"BEHIND", behindOf},
			at("PARKED", "parkedCount"), at("LAST-SUCCESS", "lastSuccess"), {"FAILING", failingOf}},
		details: []column{{"OLDEST", placeOf("oldest")}, at("IN-FLIGHT", "inFlight"), at("HELD-STREAMS", "heldStreams"), at("REDELIVERIES", "openRedeliveries"),
			at("RUNNING", "running"), at("REVISION", "revision")},
	}
	sinks := status
	sinks.more = `parked(first: 100) { nodes { stream revision eventId attempts code } pageInfo { hasNextPage } }
		deliveries(first: 20) { nodes { eventId type stream revision attempt startedAt tookMs outcome status code } }`
	sinks.lists = []list{
		{"parked.nodes", []column{{"PARKED", placeOf("")}, at("EVENT", "eventId"), at("ATTEMPTS", "attempts"), at("CODE", "code")}},
		{"deliveries.nodes", []column{at("DELIVERY", "startedAt"), {"OF", placeOf("")}, at("TYPE", "type"), at("ATTEMPT", "attempt"),
			at("TOOK-MS", "tookMs"), at("OUTCOME", "outcome"), at("STATUS", "status"), at("CODE", "code")}},
	}
	return group("sinks", "Look at sinks, which send events to other systems, and steer them", listCommand(sinks), showCommand(sinks),
		changeCommand(status, change{"pause", "pauseSink", "PauseSinkInput", "sink", "Stop the deliveries of a sink; nothing is lost"}),
		changeCommand(status, change{"resume", "resumeSink", "ResumeSinkInput", "sink", "Let a paused or disabled sink go on from where it stopped"}),
		redeliverCommand(status))
}

func redeliverCommand(k kind) *cobra.Command {
	c := inputCommand(k, change{"redeliver", "redeliverSink", "RedeliverSinkInput", "sink", "Ask a sink for events once more: one, a part of the log, or all that are parked"},
		redelivery)
	c.Flags().String("event", "", "this event alone, as STREAM/REVISION")
	c.Flags().String("from", "", "with --to: the first event of a part of the log, as STREAM/REVISION")
	c.Flags().String("to", "", "with --from: the last event of that part, which belongs to it")
	c.Flags().Bool("parked", false, "all events that are parked")
	return c
}

// redelivery says what is asked for: exactly one of --event, --from with --to, and --parked.
func redelivery(cmd *cobra.Command, input map[string]any) error {
	event, from, to := text(cmd, "event"), text(cmd, "from"), text(cmd, "to")
	parked, _ := cmd.Flags().GetBool("parked")
	ranged := from != "" || to != ""
	switch {
	case event == "" && !ranged && !parked:
		return usage("--event, --from with --to, or --parked must be given")
	case event != "" && ranged:
		return usage("--event cannot be given with --from or --to")
	case parked && (event != "" || ranged):
		return usage("--parked cannot be given with --event, --from or --to")
	case ranged && from == "":
		return usage("--to needs --from")
	case ranged && to == "":
		return usage("--from needs --to")
	case parked:
		input["allParked"] = true
		return nil
	case ranged:
		first, err := parsePlace("from", from)
		if err != nil {
			return err
		}
		last, err := parsePlace("to", to)
		input["range"] = map[string]any{"from": first, "to": last}
		return err
	}
	place, err := parsePlace("event", event)
	input["event"] = place
	return err
}

// parsePlace reads STREAM/REVISION.
func parsePlace(flag, value string) (map[string]any, error) {
	at := strings.LastIndex(value, "/")
	if at > 0 {
		if revision, err := strconv.ParseInt(value[at+1:], 10, 64); err == nil && revision >= 0 {
			return map[string]any{"stream": value[:at], "revision": revision}, nil
		}
	}
	return nil, usage("--%s must be STREAM/REVISION, such as tenant-ten_1/3", flag)
}

// behindOf is such as 1m30s.
func behindOf(r row) string {
	seconds, err := strconv.ParseFloat(r.at("lagSeconds"), 64)
	if err != nil {
		return ""
	}
	return (time.Duration(seconds * float64(time.Second))).Round(time.Second).String()
}

// failingOf is such as timeout since 2026-03-01T12:00:00.000000Z; empty if the last delivery succeeded.
func failingOf(r row) string {
	since := r.at("failingSince")
	if since == "" {
		return ""
	}
	return strings.TrimSpace(r.at("lastFailureCode") + " since " + since)
}

// placeOf is STREAM/REVISION of the event at a path, of the row itself if it is empty.
func placeOf(path string) func(row) string {
	if path != "" {
		path += "."
	}
	return func(r row) string {
		stream := r.at(path + "stream")
		if stream == "" {
			return ""
		}
		return stream + "/" + r.at(path+"revision")
	}
}
