package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

const envIDToken = "DEPUTY_ID_TOKEN"

// maxIDToken bounds a file with an ID token; a node takes no longer one.
const maxIDToken = 16 << 10

// me is the user whom an ID token proves.
type me struct{ file string }

func (m *me) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.file, "id-token-file", "", "file with an ID token of a trusted issuer, - for standard input (default $"+envIDToken+")")
}

// client speaks for the user.
func (m *me) client(a *app, c *client.Client) (*client.Client, error) {
	token := os.Getenv(envIDToken)
	if m.file != "" {
		text, err := a.readFile(m.file, maxIDToken)
		if err != nil {
			return nil, err
		}
		token = string(text)
	}
	if token = strings.TrimSpace(token); token == "" {
		return nil, usagef("an ID token is needed: set %s, or use --id-token-file", envIDToken)
	}
	return client.New(client.Options{Addresses: c.Addresses(), Token: token, UserAgent: "deputy/" + version()})
}

func (a *app) consentCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "consent",
		Short: "What you yourself have lent to agents, by your ID token",
	}, a.consentList(), a.consentWithdraw())
}

func (a *app) consentList() *cobra.Command {
	var l listing
	var m me
	var active bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List what you have lent",
		Example: "  deputy consent list --active --id-token-file id-token",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			mine, err := m.client(a, c)
			if err != nil {
				return err
			}
			p, err := read(ctx, &l, func(ctx context.Context, l client.List) (*client.Page[wire.Delegation], error) {
				return mine.MyDelegations(ctx, active, l)
			})
			if err != nil {
				return err
			}
			return a.showDelegations(p)
		}),
	}
	l.flags(cmd)
	m.flags(cmd)
	cmd.Flags().BoolVar(&active, "active", false, "only those that may be used now")
	return cmd
}

func (a *app) consentWithdraw() *cobra.Command {
	var f stopFlags
	var m me
	cmd := &cobra.Command{
		Use:     "withdraw ID",
		Short:   "Take your consent back, which ends every token that rests on it",
		Example: "  deputy consent withdraw dlg_01ks8n1x5b5e5fh2wwt0rrnq7a --id-token-file id-token --wait fenced",
		Args:    exactly("the delegation's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			mine, err := m.client(a, c)
			if err != nil {
				return err
			}
			deleted, err := mine.WithdrawMine(ctx, args[0], f.reason, f.options()...)
			if err != nil {
				return err
			}
			return f.stopped(a, deleted, &deleted.Stop, func(s *sheet) {
				s.field("Withdrawn", deleted.ID)
				s.field("Revoked", joined(deleted.Handles))
			})
		}),
	}
	m.flags(cmd)
	f.add(a, cmd, wire.WaitCommitted)
	return cmd
}
