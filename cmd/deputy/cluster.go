package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

func (a *app) clusterCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "cluster",
		Short: "The cluster: its nodes, who leads, who may join",
	}, a.clusterMembers(), a.clusterStatus(), a.clusterJoinToken(), a.clusterDrain(), a.clusterRemove(), a.clusterTransfer(),
		a.clusterRotateKeys(), a.clusterRotateGossip(), a.clusterSettings(), a.clusterSnapshot(), a.clusterRestore(), a.clusterOpen())
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
	MayFail int `json:"may_fail"`
	// MintingClosed says why nothing is minted anywhere.
	MintingClosed string            `json:"minting_closed,omitempty"`
	Members       []wire.Member     `json:"members"`
	Freshness     []wire.NodeStatus `json:"freshness"`
}

func statusOf(settings *wire.Settings, members []wire.Member, nodes []wire.NodeStatus) *clusterStatus {
	status := &clusterStatus{Settings: *settings, Nodes: len(members), Members: members, Freshness: nodes}
	for i := range nodes {
		if status.MintingClosed == "" {
			status.MintingClosed = nodes[i].MintingClosed
		}
	}
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
			nodes, err := c.Status(ctx)
			if err != nil {
				return err
			}
			status := statusOf(settings, members.Items, nodes.Items)
			return a.show(status, func(s *sheet) {
				s.field("Cluster", status.Settings.ClusterID)
				s.field("Issuer", status.Settings.Issuer)
				s.field("Leader", dash(status.Leader))
				s.field("Voters", fmt.Sprintf("%d of %d alive", status.VotersAlive, status.Voters))
				s.field("Nodes", fmt.Sprintf("%d of %d alive", status.NodesAlive, status.Nodes))
				s.field("Writes", writesText(status.MayFail))
				s.field("Minting", orOpen(status.MintingClosed))
				s.gap()
				s.row("NODE", "STATE", "ROLE", "FRESH", "APPLIED", "KEY", "NOTE")
				for i := range status.Members {
					m := &status.Members[i]
					s.node(m, nodeStatus(status.Freshness, m.ID))
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

func orOpen(closed string) string {
	if closed == "" {
		return "open"
	}
	return "closed: " + closed + "; see deputy cluster open --help"
}

// nodeStatus is what a node says of itself; a node that was not asked says so in its error.
func nodeStatus(nodes []wire.NodeStatus, id string) *wire.NodeStatus {
	if i := slices.IndexFunc(nodes, func(n wire.NodeStatus) bool { return n.ID == id }); i >= 0 {
		return &nodes[i]
	}
	return &wire.NodeStatus{ID: id, Error: "was not asked"}
}

// worthANote is how far a clock is off before it is told: a quarter of what costs a node its lease.
const worthANote = 500 * time.Millisecond

// node draws a member's row: what is known of it, and a note of all that is not as it should be.
func (s *sheet) node(m *wire.Member, n *wire.NodeStatus) {
	if n.Error != "" {
		s.row(m.ID, m.State, memberRole(m), "unknown", "", "", n.Error)
		return
	}
	fresh := "yes, as of " + millis(n.AgeMilliseconds) + " ago"
	var notes []string
	if !n.Fresh {
		fresh = "NO: " + n.Reason
		if n.Detail != "" && n.Detail != n.Reason {
			notes = append(notes, n.Detail)
		}
	}
	if n.Draining {
		notes = append(notes, "draining")
	}
	if n.PendingRevocations > 0 {
		notes = append(notes, fmt.Sprintf("keeps %d revocations until there is a majority", n.PendingRevocations))
	}
	if off := time.Duration(n.ClockOffsetMilliseconds * float64(time.Millisecond)); off.Abs() > worthANote {
		notes = append(notes, "clock off by "+rounded(off))
	}
	s.row(m.ID, m.State, memberRole(m), fresh, fmt.Sprint(n.AppliedIndex), shortKey(n.KeyID), commas(notes))
}

// shortKey is as much of a key's id as tells keys apart.
func shortKey(id string) string { return id[:min(len(id), 8)] }
