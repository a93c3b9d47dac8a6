package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Print the bearer token that the other commands send",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := newClient(cmd)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), api.token)
			return err
		},
	}
	addAPI(c.Flags())
	return c
}
