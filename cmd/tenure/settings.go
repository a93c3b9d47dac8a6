package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
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

// configure gives every flag that was not given the value of its variable, or else of the configuration file. Such a flag
// counts as given. An empty variable counts as none. A variable's value may also be the first line of the file that a
// variable of the same name with _FILE behind it names, as containers get their secrets.
func configure(cmd *cobra.Command, env lookup) error {
	config := cmd.Flags().Lookup("config")
	path, err := valueOf(variableOf(config.Name), env)
	if err != nil {
		return err
	}
	if path != "" && !config.Changed {
		config.Changed = true
		if err := config.Value.Set(path); err != nil {
			return usage("%s: %s", variableOf(config.Name), err)
		}
	}
	path = config.Value.String()
	file, err := readConfig(path, cmd.Root(), env)
	if err != nil {
		return err
	}
	var first error
	given := func(name string) (value, from string) { // from is empty where it is not
		value, err := valueOf(variableOf(name), env)
		from = variableOf(name)
		if err == nil && value == "" {
			if !file.Has(name) {
				return "", ""
			}
			value, from = file.Text(name, ""), path+": "+name
			err = inConfig(path, file.First())
		}
		first = cmp.Or(first, err)
		return value, from
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || first != nil || !configurable(f) {
			return
		}
		value, from := given(f.Name)
		if from == "" || first != nil {
			return
		}
		f.Changed = true
		if err := f.Value.Set(value); err != nil {
			first = usage("%s: %s", from, err)
		}
	})
	token, _ := given(tokenKey)
	cmd.SetContext(context.WithValue(cmd.Context(), configuredContext{}, configured{token, file}))
	return first
}

// inConfig says which file a refusal of its settings is about.
func inConfig(path string, err error) error {
	if err == nil {
		return nil
	}
	return usage("--config: %s: %s", path, err)
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
	token string
	file  *settings.Section
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
	file, with := configuredOf(cmd).file, app.Settings{Version: version(), Logger: logger}
	to, err := app.ParseSinks(file.Section(sinksKey), with)
	if err != nil {
		return nil, nil, inConfig(text(cmd, "config"), err)
	}
	from, err := app.ParseSources(file.Section(sourcesKey), with)
	return to, from, inConfig(text(cmd, "config"), err)
}

func variableOf(flag string) string {
	return "TENURE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func configurable(f *pflag.Flag) bool {
	return f.Name != "help" && f.Name != "version" && f.Name != "config"
}

// readConfig reads the settings, which have the names of flags, and the mappings that have none. A file may serve all commands,
// so a name must be a flag of any of them.
func readConfig(path string, root *cobra.Command, env lookup) (*settings.Section, error) {
	var content yaml.Node
	if path != "" {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usage("--config: there is no file %s", path)
		}
		if err = cmp.Or(err, yaml.Unmarshal(text, &content)); err != nil {
			return nil, inConfig(path, err)
		}
	}
	file := settings.New("", &content, settings.Secrets{Env: env, File: os.ReadFile})
	known := map[string]bool{tokenKey: true, sinksKey: true, sourcesKey: true}
	flagNames(root, known)
	for _, name := range file.Keys() {
		if !known[name] {
			file.Refuse(name, "is not known")
		}
	}
	return file, inConfig(path, file.First())
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
