package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

// watchPatience is how long a watch goes on by itself: until somebody ends it.
const watchPatience = 10 * 365 * 24 * time.Hour

func (a *app) revocationWatch() *cobra.Command {
	var o client.WatchOptions
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print what is revoked, as it is, until interrupted",
		Long: `Follow the revocation set and print every handle as it is denied and as it is committed. Where the node is lost
it goes on at another one, from where it was.

It begins with the whole set. As a table that is one line; as JSON, one object a line, all of it. --from begins behind an
index instead, if the node still has what came since.`,
		Example: `  deputy revocation watch
  deputy revocation watch -o json | jq -r '.entries[]?.handle'`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			err := c.Watch(ctx, o, a.showEvent)
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
				return nil // it was asked to end
			}
			return err
		}),
	}
	a.waits(cmd, watchPatience)
	cmd.Flags().Uint64Var(&o.From, "from", 0, "index up to which all is known")
	return cmd
}

// showEvent prints one event. What only keeps the connection alive is left out.
func (a *app) showEvent(e *client.RevocationEvent) error {
	if e.Type == client.EventHeartbeat {
		return nil
	}
	switch a.output {
	case formatJSON:
		lines := json.NewEncoder(a.out)
		lines.SetEscapeHTML(false)
		return lines.Encode(e)
	case formatYAML:
		if _, err := fmt.Fprintln(a.out, "---"); err != nil {
			return err
		}
		return writeYAML(a.out, e)
	}
	var says string
	switch e.Type {
	case wire.EventOpen:
		says = "following " + e.Node
		if e.Resumed {
			says += ", from where it was"
		}
	case wire.EventSnapshot:
		return nil
	case wire.EventSynced:
		says = fmt.Sprintf("%d handles are revoked so far", e.Count)
	case wire.EventPurge:
		says = "forgotten: what expired by " + e.Before.String()
	case wire.EventEnd:
		says = e.Detail
	default:
		var handles []string
		for i := range e.Entries {
			handles = append(handles, string(e.Entries[i].Handle))
		}
		says = strings.Join(handles, " ")
	}
	index := ""
	if e.Index > 0 {
		index = strconv.FormatUint(e.Index, 10)
	}
	_, err := fmt.Fprintf(a.out, "%s  %-7s  %7s  %s\n", a.now().UTC().Format("15:04:05.000"), printable(e.Type), index, printable(says))
	return err
}
