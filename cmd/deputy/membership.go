package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

// removalPatience is what a removal may take: the end of the node's lease, at most a minute, and some commits.
const removalPatience = 90 * time.Second

func (a *app) completeNodes() cobra.CompletionFunc {
	return a.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		p, err := c.Members(ctx)
		if err != nil {
			return nil, err
		}
		ids := make([]string, len(p.Items))
		for i := range p.Items {
			ids[i] = p.Items[i].ID
		}
		return ids, nil
	})
}

func (a *app) clusterDrain() *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Have a node mint nothing and lead no more, before it is removed or maintained",
		Long: `A drained node hands leadership over, answers 503 to whoever wants a token from it, and reports itself as not
ready, so that load balancers leave it. It goes on checking tokens. --undo takes that back.`,
		Example: `  deputy cluster drain n4
  deputy cluster drain n4 --undo`,
		Args:              exactly("the node's id"),
		ValidArgsFunction: a.completeNodes(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			drain, err := c.DrainMember(ctx, args[0], !undo)
			if err != nil {
				return err
			}
			return a.show(drain, func(s *sheet) {
				s.field("Node", drain.ID)
				s.field("Draining", yesNo(drain.Draining))
				if drain.Draining {
					s.field("Next", "deputy cluster remove "+drain.ID+", or stop it for maintenance; --undo takes this back")
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "let the node mint and lead again")
	return cmd
}

func (a *app) clusterRemove() *cobra.Command {
	var reason string
	var force, compromised bool
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of the cluster for good; its id is never used again",
		Long: `A removal first ends the node's right to speak: it gives its lease up, or the lease runs out. Then it leaves the
cluster, and the key that gossip is encrypted with is replaced. What it signed verifies until it ends.

--compromised says that its keys may be in wrong hands: whatever it signed is revoked.
--force removes it also where too few live voters would remain: writes may then stop until one comes back.`,
		Example: `  deputy cluster remove n4 --reason 'disk failed'
  deputy cluster remove n4 --compromised --reason INC-42`,
		Args:              exactly("the node's id"),
		ValidArgsFunction: a.completeNodes(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			var options []client.Option
			if force {
				options = append(options, client.Force())
			}
			if compromised {
				options = append(options, client.Compromised())
			}
			removed, err := c.RemoveMember(ctx, args[0], reason, options...)
			if err != nil {
				return err
			}
			return a.show(removed, func(s *sheet) {
				s.field("Removed", removed.ID)
				if compromised {
					s.field("Its tokens", "are revoked")
				} else {
					s.field("Its tokens", "stay good until they end")
				}
				s.field("Next", "its process ends by itself; its data folder is of no use any more")
			})
		}),
	}
	a.waits(cmd, removalPatience)
	cmd.Flags().StringVar(&reason, "reason", "", "kept with the member's record")
	cmd.Flags().BoolVar(&force, "force", false, "also where the cluster may lose its quorum")
	cmd.Flags().BoolVar(&compromised, "compromised", false, "revoke whatever the node signed")
	return cmd
}

func (a *app) clusterRotateKeys() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-keys [NODE]",
		Short: "Have a node, or every node, make a new token key",
		Long: `Each node publishes its next key, waits until every other node has it, signs with it from then on, and retires the
old one, which verifies until its last token has ended. Nobody notices.`,
		Example: `  deputy cluster rotate-keys
  deputy cluster rotate-keys n2`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%q is one argument too many; without any, all nodes rotate", args[1])
			}
			return nil
		},
		ValidArgsFunction: a.completeNodes(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			node := ""
			if len(args) == 1 {
				node = args[0]
			}
			change, err := c.RotateKey(ctx, node)
			if err != nil {
				return err
			}
			return a.show(change, func(s *sheet) {
				s.field("Asked for", "a new token key at "+cmp.Or(node, "every node"))
				s.field("Watch", "deputy cluster status shows the key that each node signs with")
			})
		}),
	}
}

func (a *app) clusterRotateGossip() *cobra.Command {
	return &cobra.Command{
		Use:     "rotate-gossip-key",
		Short:   "Replace the key that gossip is encrypted with: add, use, drop",
		Example: "  deputy cluster rotate-gossip-key",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			change, err := c.RotateGossipKey(ctx)
			if err != nil {
				return err
			}
			return a.show(change, func(s *sheet) { s.field("Rotating", "the gossip key; each step waits for every node") })
		}),
	}
}

func (a *app) clusterSettings() *cobra.Command {
	show := &cobra.Command{
		Use:     "show",
		Short:   "What holds for the whole cluster",
		Example: "  deputy cluster settings show",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			settings, err := c.Settings(ctx)
			if err != nil {
				return err
			}
			return a.showSettings(settings)
		}),
	}
	return group(&cobra.Command{Use: "settings", Short: "What holds for the whole cluster, and how to change it"}, show, a.settingsSet())
}

func (a *app) settingsSet() *cobra.Command {
	var lease, offline, rotation time.Duration
	var urls []string
	cmd := &cobra.Command{
		Use:     "set",
		Short:   "Change what holds for the whole cluster, as the flags say",
		Example: "  deputy cluster settings set --lease 2s --offline-ttl 2m --key-rotation 720h",
		Args:    exactly(),
	}
	cmd.RunE = a.does(func(ctx context.Context, c *client.Client, _ []string) error {
		patch := map[string]any{}
		flags := cmd.Flags()
		if flags.Changed("lease") {
			patch["lease_milliseconds"] = lease.Milliseconds()
		}
		if flags.Changed("offline-ttl") {
			patch["offline_token_ttl_seconds"] = seconds(offline)
		}
		if flags.Changed("key-rotation") {
			patch["key_rotation_seconds"] = seconds(rotation)
		}
		if flags.Changed("external-url") {
			patch["external_urls"] = urls
		}
		if len(patch) == 0 {
			return usagef("nothing to change; --help lists what can be")
		}
		settings, err := c.PatchSettings(ctx, patch)
		if err != nil {
			return err
		}
		return a.showSettings(settings)
	})
	flags := cmd.Flags()
	flags.DurationVar(&lease, "lease", 0, "how long a node may speak after it proved to be fresh, 500ms to 60s; a fence waits no longer")
	flags.DurationVar(&offline, "offline-ttl", 0, "longest token for an application that verifies offline")
	flags.DurationVar(&rotation, "key-rotation", 0, "how often each node makes a new token key, 1h to 8760h; 0: only by command")
	flags.StringArrayVar(&urls, "external-url", nil, "a further URL under which the cluster is reached; replaces them all")
	return cmd
}

func (a *app) showSettings(settings *wire.Settings) error {
	return a.show(settings, func(s *sheet) {
		s.field("Cluster", settings.ClusterID)
		s.field("Issuer", settings.Issuer)
		for _, u := range settings.ExternalURLs {
			s.field("Also at", u)
		}
		s.field("Lease", (time.Duration(settings.LeaseMilliseconds) * time.Millisecond).String())
		s.field("Offline tokens", "at most "+secondsText(settings.OfflineTokenTTLSeconds))
		rotation := "only by command"
		if settings.KeyRotationSeconds > 0 {
			rotation = fmt.Sprint("every ", secondsText(settings.KeyRotationSeconds))
		}
		s.field("Token keys", "rotated "+rotation)
		if settings.RevocationsKeptSeconds > 0 {
			s.field("Revocations", fmt.Sprint("known for ", time.Duration(settings.RevocationsKeptSeconds)*time.Second, " at least"))
		}
	})
}
