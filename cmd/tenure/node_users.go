package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tenure-dev/tenure/adapters/eventnode"
	"github.com/tenure-dev/tenure/domain"
)

func nodeUsersCommand() *cobra.Command {
	c := group("users", "Manage the users of a node with TLS", nodeUsersAdd(), nodeUsersList(), nodeUsersPasswd(), nodeUsersRemove())
	c.Long = `Manages the users of a node with TLS, in the file users.json beside its log, while it runs or not. A running node follows
within a second. A password is asked for at a terminal, or else is the first line of standard input.`
	return c
}

// firstUsers makes a fresh node's users, and tells of them.
func firstUsers(cmd *cobra.Command, users *eventnode.Users) error {
	if users == nil {
		return nil
	}
	if text(cmd, "dev-users") == "true" {
		return users.Develop()
	}
	password, err := users.First()
	if err == nil && password != "" {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "admin password", password)
	}
	return err
}

// onUsers makes a command that does something to a directory's users.
func onUsers(use, short string, args cobra.PositionalArgs, do func(cmd *cobra.Command, users *eventnode.Users, args []string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		users, err := eventnode.OpenUsers(nodeDir(text(cmd, "data")), time.Now, nil)
		if err == nil {
			err = do(cmd, users, args)
		}
		return usersError(err)
	}}
	addData(c.Flags(), "directory of the node")
	return c
}

func nodeUsersAdd() *cobra.Command {
	c := onUsers("add NAME", "Add a user", cobra.ExactArgs(1), func(cmd *cobra.Command, users *eventnode.Users, args []string) error {
		roles, err := cmd.Flags().GetStringSlice("roles")
		if err != nil {
			return err
		}
		password, err := askPassword(cmd, args[0])
		if err != nil {
			return err
		}
		return users.Add(args[0], password, roles...)
	})
	c.Flags().StringSlice("roles", nil, "roles of the user, of "+eventnode.RoleAdmins+" and "+eventnode.RoleOps)
	return c
}

func nodeUsersPasswd() *cobra.Command {
	return onUsers("passwd NAME", "Give a user another password", cobra.ExactArgs(1), func(cmd *cobra.Command, users *eventnode.Users, args []string) error {
		password, err := askPassword(cmd, args[0])
		if err != nil {
			return err
		}
		return users.SetPassword(args[0], password)
	})
}

func nodeUsersRemove() *cobra.Command {
	return onUsers("remove NAME", "Remove a user", cobra.ExactArgs(1), func(_ *cobra.Command, users *eventnode.Users, args []string) error {
		return users.Remove(args[0])
	})
}

func nodeUsersList() *cobra.Command {
	columns := []column{at("NAME", "name"), at("ROLES", "roles"), at("CREATED", "created"), at("DISABLED", "disabled")}
	c := onUsers("list", "List the users", cobra.NoArgs, func(cmd *cobra.Command, users *eventnode.Users, _ []string) error {
		format, err := checkOutput(cmd, "table", "json")
		if err != nil {
			return err
		}
		list, err := users.List()
		if err != nil {
			return err
		}
		rows := make([]row, len(list)) // without the hashes
		for i, u := range list {
			roles := make([]any, len(u.Roles))
			for j := range u.Roles {
				roles[j] = u.Roles[j]
			}
			rows[i] = row{"name": u.Name, "roles": roles, "created": u.Created.Format(time.RFC3339), "disabled": u.Disabled}
		}
		if format == "json" {
			return writeValue(cmd.OutOrStdout(), format, rows)
		}
		return writeTable(cmd.OutOrStdout(), columns, rows)
	})
	addOutput(c.Flags(), "table or json")
	return c
}

// askPassword asks for a password, twice and without showing it where there is somebody to ask.
func askPassword(cmd *cobra.Command, name string) (string, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 4<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	ask := func(what string) (string, error) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s of %s: ", what, name)
		defer fmt.Fprintln(cmd.ErrOrStderr())
		password, err := term.ReadPassword(int(in.Fd()))
		return string(password), err
	}
	first, err := ask("Password")
	if err != nil {
		return "", err
	}
	again, err := ask("Again, the password")
	if err == nil && again != first {
		err = domain.Invalid("password", "must be the same both times")
	}
	return first, err
}
