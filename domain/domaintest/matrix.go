package domaintest

import (
	"fmt"
	"slices"
	"strings"
)

// The marks of a matrix.
const (
	Heard   = "x"
	Quiet   = "-"
	Refused = "."
)

// Matrix is a printed phase × command matrix, read again.
type Matrix struct {
	Phases   []string // absent is the one before the first event
	Commands []string // in words, in the order of the rulebook
	marks    map[[2]string]string
}

// ParseMatrix reads what domain.Aggregate prints.
func ParseMatrix(text string) (Matrix, error) {
	const margin = 28
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	m := Matrix{Phases: strings.Fields(lines[0]), marks: map[[2]string]string{}}
	for _, line := range lines[1:] {
		if len(line) < margin {
			return m, fmt.Errorf("not a row of a matrix: %q", line)
		}
		command, marks := strings.TrimSpace(line[:margin]), strings.Fields(line[margin:])
		if len(marks) != len(m.Phases) {
			return m, fmt.Errorf("%d marks for %d phases: %q", len(marks), len(m.Phases), line)
		}
		m.Commands = append(m.Commands, command)
		for i, p := range m.Phases {
			m.marks[[2]string{command, p}] = marks[i]
		}
	}
	return m, nil
}

// Mark is a command's in a phase.
func (m Matrix) Mark(command, phase string) string { return m.marks[[2]string{command, phase}] }

// HeardIn lists the phases in which a command is heard.
func (m Matrix) HeardIn(command string) (phases []string) {
	for _, p := range m.Phases {
		if m.Mark(command, p) == Heard {
			phases = append(phases, p)
		}
	}
	return phases
}

// Table is the matrix as a Markdown table.
func (m Matrix) Table() string {
	shown := map[string]string{Heard: " heard", Quiet: " quiet"}
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(m.Phases, " | "), strings.Repeat("---|", len(m.Phases)))
	for _, c := range m.Commands {
		fmt.Fprintf(&b, "| %s |", c)
		for _, p := range m.Phases {
			fmt.Fprintf(&b, "%s |", shown[m.Mark(c, p)])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// edge is a command that leads from one phase to another.
type edge struct{ from, to, command string }

// diagram draws the edges as a Mermaid state diagram, in the order of the matrix.
func (m Matrix) diagram(edges map[edge]bool) string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	node := func(p string) string {
		if p == phaseName("") {
			return "[*]"
		}
		return p
	}
	for _, from := range m.Phases {
		for _, to := range m.Phases {
			var commands []string
			for _, c := range m.Commands {
				if edges[edge{from, to, c}] {
					commands = append(commands, c)
				}
			}
			if len(commands) > 0 {
				fmt.Fprintf(&b, "    %s --> %s: %s\n", node(from), node(to), strings.Join(commands, ", "))
			}
		}
	}
	for _, p := range m.Phases {
		if !slices.ContainsFunc(m.Commands, func(c string) bool { return m.Mark(c, p) == Heard }) {
			fmt.Fprintf(&b, "    %s --> [*]\n", node(p))
		}
	}
	return b.String()
}
