package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

func (a *app) clusterCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "cluster",
		Short: "The cluster: its nodes, who leads, who may join",
	}, a.clusterMembers(), a.clusterStatus(), a.clusterJoinToken(), a.clusterRemove(), a.clusterTransfer())
}

func (a *app) clusterMembers() *cobra.Command {
	return &cobra.Command{
		Use:     "members",
		Short:   "List the nodes, as the one that answers sees them",
		Example: "  deputy cluster members",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := c.Members(ctx)
			if err != nil {
				return err
			}
			return showPage(a, p, "ID STATE ROLE URL CLUSTER GOSSIP JOINED", func(s *sheet, m *wire.Member) {
				s.row(m.ID, m.State, memberRole(m), m.PublicURL, m.ClusterAddress, m.GossipAddress, s.when(m.JoinedAt))
			})
		}),
	}
}

func memberRole(m *wire.Member) string {
	if m.Leader {
		return "leader"
	}
	return m.Suffrage
}

// clusterStatus is what an operator asks first: is there a leader, and how much may still fail.
type clusterStatus struct {
	Settings    wire.Settings `json:"settings"`
	Leader      string        `json:"leader"`
	Voters      int           `json:"voters"`
	VotersAlive int           `json:"voters_alive"`
	Nodes       int           `json:"nodes"`
	NodesAlive  int           `json:"nodes_alive"`
	// MayFail is how many more voters can fail before writes stop; -1 where they have stopped.
	MayFail int           `json:"may_fail"`
	Members []wire.Member `json:"members"`
}

func statusOf(settings *wire.Settings, members []wire.Member) *clusterStatus {
	status := &clusterStatus{Settings: *settings, Nodes: len(members), Members: members}
	for i := range members {
		m := &members[i]
		alive := m.State == wire.MemberAlive
		if alive {
			status.NodesAlive++
		}
		if m.Leader {
			status.Leader = m.ID
		}
		if m.Suffrage == "voter" {
			status.Voters++
			if alive {
				status.VotersAlive++
			}
		}
	}
	quorum := status.Voters/2 + 1
	status.MayFail = max(status.VotersAlive-quorum, -1)
	return status
}

func writesText(mayFail int) string {
	switch {
	case mayFail < 0:
		return "stopped: too few voters are alive"
	case mayFail == 0:
		return "go on, but stop if one more voter fails"
	}
	return fmt.Sprintf("go on, also with %d more failing", mayFail)
}

func (a *app) clusterStatus() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Say whether the cluster has a leader, and how many voters may still fail",
		Example: "  deputy cluster status -o json | jq .may_fail",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			settings, err := c.Settings(ctx)
			if err != nil {
				return err
			}
			members, err := c.Members(ctx)
			if err != nil {
				return err
			}
			status := statusOf(settings, members.Items)
			return a.show(status, func(s *sheet) {
				s.field("Cluster", status.Settings.ClusterID)
				s.field("Issuer", status.Settings.Issuer)
				s.field("Leader", dash(status.Leader))
				s.field("Voters", fmt.Sprintf("%d of %d alive", status.VotersAlive, status.Voters))
				s.field("Nodes", fmt.Sprintf("%d of %d alive", status.NodesAlive, status.Nodes))
				s.field("Writes", writesText(status.MayFail))
				for i := range status.Members {
					m := &status.Members[i]
					line := m.State + " " + memberRole(m)
					if m.AppliedIndex > 0 { // the node that answers may not have heard
						line += fmt.Sprintf(", applied %d", m.AppliedIndex)
					}
					s.field(m.ID, line)
				}
			})
		}),
	}
}

func (a *app) clusterJoinToken() *cobra.Command {
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:     "join-token",
		Aliases: []string{"join-tokens"},
		Short:   "Make a token that lets one node join, once",
		Example: `  deputy cluster join-token --duration 1h
  deputy server --config n4.yaml --join "$(deputy cluster join-token -o json | jq -r .token)"`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			token, err := c.CreateJoinToken(ctx, wire.JoinTokenRequest{Duration: seconds(lasts)})
			if err != nil {
				return err
			}
			return a.show(token, func(s *sheet) {
				s.field("Id", token.ID)
				s.field("Ends", s.when(token.ExpiresAt))
				if token.Token == "" {
					s.field("Token", "lost with a broken connection; make another")
					return
				}
				s.field("Token", token.Token)
				s.field("Keep it", "it is shown only now, and lets one node join, once")
			})
		}),
	}
	cmd.Flags().DurationVar(&lasts, "duration", 15*time.Minute, "how long it may be used, 1m to 24h")
	return cmd
}

func (a *app) clusterRemove() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "remove NODE",
		Short:   "Take a node out of the cluster for good; its id is never used again",
		Example: "  deputy cluster remove n4 --reason 'disk failed'",
		Args:    exactly("the node's id"),
		ValidArgsFunction: a.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
			p, err := c.Members(ctx)
			if err != nil {
				return nil, err
			}
			ids := make([]string, len(p.Items))
			for i := range p.Items {
				ids[i] = p.Items[i].ID
			}
			return ids, nil
		}),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			removed, err := c.RemoveMember(ctx, args[0], reason)
			if err != nil {
				return err
			}
			return a.show(removed, func(s *sheet) {
				s.field("Removed", removed.ID)
				s.field("Next", "stop its process; the tokens it signed stay good until they end")
			})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "kept with the member's record")
	return cmd
}

func (a *app) clusterTransfer() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:     "transfer-leadership",
		Short:   "Hand the lead to another voter, such as before maintenance",
		Example: "  deputy cluster transfer-leadership --to n2",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			transfer, err := c.TransferLeadership(ctx, to)
			if err != nil {
				return err
			}
			return a.show(transfer, func(s *sheet) {
				s.field("From", transfer.From)
				s.field("To", transfer.To)
			})
		}),
	}
	cmd.Flags().StringVar(&to, "to", "", "a voter's id (default: the one that is furthest along)")
	return cmd
}
