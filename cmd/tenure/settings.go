package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/adapters/bus/sources"
)

// lookup finds an environment variable.
type lookup func(name string) (value string, set bool)

// tokenKey is the setting that has no flag, since everybody can see a process's arguments.
const tokenKey = "token"

// The settings that have no flags, since they are mappings.
const (
	sinksKey   = "sinks"
	sourcesKey = "sources"
)

var sectionKeys = []string{sinksKey, sourcesKey}

// configure gives every flag that was not given the value of its variable, or else of the configuration file. Such a flag
// counts as given. An empty variable counts as none. A variable's value may also be the first line of the file that a
// variable of the same name with _FILE behind it names, as containers get their secrets.
func configure(cmd *cobra.Command, env lookup) error {
	var first error
	variable := func(name string) (string, bool) {
		value, err := valueOf(variableOf(name), env)
		if first == nil {
			first = err
		}
		return value, value != ""
	}
	config := cmd.Flags().Lookup("config")
	if value, set := variable(config.Name); set && !config.Changed {
		config.Changed = true
		if err := config.Value.Set(value); err != nil {
			return usage("%s: %s", variableOf(config.Name), err)
		}
	}
	file, sections, err := readConfig(config.Value.String(), cmd.Root())
	if err != nil {
		return err
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || first != nil || !configurable(f) {
			return
		}
		value, from := file[f.Name], config.Value.String()+": "+f.Name
		_, set := file[f.Name]
		if v, ok := variable(f.Name); ok {
			value, set, from = v, true, variableOf(f.Name)
		}
		if !set {
			return
		}
		f.Changed = true
		if err := f.Value.Set(value); err != nil {
			first = usage("%s: %s", from, err)
		}
	})
	token := file[tokenKey]
	if value, set := variable(tokenKey); set {
		token = value
	}
	cmd.SetContext(context.WithValue(cmd.Context(), configuredContext{}, configured{token, sections, env}))
	return first
}

// valueOf is a variable's value, or what stands in the file that its _FILE names; empty where neither is set.
func valueOf(name string, env lookup) (string, error) {
	if value, set := env(name); set && value != "" {
		return value, nil
	}
	path, set := env(name + "_FILE")
	if !set || path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", usage("%s_FILE: %s", name, err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return "", usage("%s_FILE: %s is empty", name, path)
	}
	return line, nil
}

// configured is what a command is told beside its flags.
type configured struct {
	token    string
	sections map[string]*yaml.Node
	env      lookup
}

type configuredContext struct{}

func configuredOf(cmd *cobra.Command) configured {
	c, _ := cmd.Context().Value(configuredContext{}).(configured)
	return c
}

// tokenOf is the bearer token that TENURE_TOKEN or the configuration file gives; empty where neither does.
func tokenOf(cmd *cobra.Command) string { return configuredOf(cmd).token }

// routesOf builds the sinks and sources of the configuration file.
func routesOf(cmd *cobra.Command, logger *slog.Logger) ([]sinks.Sink, []sources.Source, error) {
	c := configuredOf(cmd)
	settings := app.Settings{Env: c.env, Version: version(), Logger: logger}
	to, err := app.ParseSinks(c.sections[sinksKey], settings)
	if err != nil {
		return nil, nil, usage("--config: %s", err)
	}
	from, err := app.ParseSources(c.sections[sourcesKey], settings)
	if err != nil {
		return nil, nil, usage("--config: %s", err)
	}
	return to, from, nil
}

func variableOf(flag string) string {
	return "TENURE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func configurable(f *pflag.Flag) bool {
	return f.Name != "help" && f.Name != "version" && f.Name != "config"
}

// readConfig reads settings by the names of flags, and the mappings that have none. A file may serve all commands, so a name
// must be a flag of any of them.
func readConfig(path string, root *cobra.Command) (values map[string]string, sections map[string]*yaml.Node, err error) {
	if path == "" {
		return nil, nil, nil
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, usage("--config: there is no file %s", path)
	case err != nil:
		return nil, nil, usage("--config: %s", err)
	}
	nodes := map[string]yaml.Node{}
	if err := yaml.Unmarshal(text, &nodes); err != nil {
		return nil, nil, usage("--config: %s is not made of lines name: value: %s", path, err)
	}
	known := map[string]bool{tokenKey: true}
	flagNames(root, known)
	values, sections = map[string]string{}, map[string]*yaml.Node{}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		node := nodes[name]
		switch {
		case slices.Contains(sectionKeys, name):
			sections[name] = &node
		case !known[name]:
			return nil, nil, usage("--config: %s has %q, which is no setting", path, name)
		case node.Kind != yaml.ScalarNode:
			return nil, nil, usage("--config: %s: %s must be a single value", path, name)
		default:
			values[name] = node.Value
		}
	}
	return values, sections, nil
}

func flagNames(cmd *cobra.Command, into map[string]bool) {
	add := func(f *pflag.Flag) {
		if configurable(f) {
			into[f.Name] = true
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.PersistentFlags().VisitAll(add)
	for _, c := range cmd.Commands() {
		flagNames(c, into)
	}
}

// text is a string flag's value.
func text(cmd *cobra.Command, flag string) string { return fmt.Sprint(cmd.Flags().Lookup(flag).Value) }

// addData adds --data.
func addData(flags *pflag.FlagSet, meaning string) { flags.String("data", ".tenure", meaning) }
