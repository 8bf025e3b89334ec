package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/policy/policytest"
)

// policyTest needs no node: what decides is in the program.
func (a *app) policyTest() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Hold policies to files of cases, without a node",
		Long: `Hold policies to files of cases, by the code that decides at a node, and without one. The policies are those of a
folder, where --policies names one, all of them enforced but for what its policies.yaml says; or else those that come
along. docs/policies.md describes the files.`,
		Example: "  deputy policy test cases.yaml --policies policies/",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			a.started = true
			set, err := a.policiesToTest(dir)
			if err != nil {
				return err
			}
			return a.testPolicies(set, args)
		},
	}
	cmd.Flags().StringVar(&dir, "policies", "", "folder with files NAME"+cedarSuffix+", or one such file")
	return cmd
}

func (a *app) policiesToTest(dir string) (*policy.Set, error) {
	var all []*identity.Policy
	if dir == "" {
		for _, p := range policy.Shipped() {
			all = append(all, &p)
		}
		return policy.Compile(all), nil
	}
	files, err := a.readPolicies(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		p := &identity.Policy{ID: f.ID, Text: f.Text, Mode: identity.PolicyMode(f.Mode)}
		if p.Mode == "" {
			p.Mode = identity.PolicyEnforce
		}
		all = append(all, p)
	}
	return policy.Compile(all), nil
}

// testedCase is one case in the answer.
type testedCase struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Want   string `json:"want,omitempty"`
	Got    string `json:"got,omitempty"`
}

func (a *app) testPolicies(set *policy.Set, paths []string) error {
	cases, failed := []testedCase{}, 0
	for _, path := range paths {
		text, err := a.readFile(path, policytest.MaxBytes)
		if err != nil {
			return err
		}
		file, err := policytest.Parse(path, text)
		if err != nil {
			return err
		}
		for _, r := range file.Run(set) {
			cases = append(cases, testedCase{path, r.Line, r.Name, r.Passed, r.Want, r.Got})
			if !r.Passed {
				failed++
			}
		}
	}
	if a.output != formatTable {
		if err := a.show(cases, nil); err != nil {
			return err
		}
	} else {
		for _, c := range cases {
			if !c.Passed {
				fmt.Fprintf(a.out, "%s:%d: %s\n  want %s\n  got  %s\n", printable(c.File), c.Line, printable(c.Name), printable(c.Want), printable(c.Got))
			}
		}
		fmt.Fprintf(a.out, "%d cases, %d failed\n", len(cases), failed)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d cases failed", failed, len(cases))
	}
	return nil
}

type simulateFlags struct {
	request  wire.SimulateRequest
	scopes   []string
	tool     wire.SimulatedTool
	policies string
	at       string
	since    string
	examples int
}

func (a *app) policySimulate() *cobra.Command {
	var f simulateFlags
	var b body
	cmd := &cobra.Command{
		Use:   "simulate --agent AGENT | simulate -f FILE | simulate -f DRAFT.cedar --since 24h",
		Short: "Tell what would come of a request, or whom drafts would break",
		Long: `Tell what would come of a request, also with policies that are only drafts. With --since, what the audit trail has
recorded from then on is decided again with the drafts: who would break is told by agent, scope and policy, with examples.`,
		Example: `  deputy policy simulate --agent inbox-assistant --principal user@company.com --scope gmail.send
  deputy policy simulate --agent support-triage-agent --source-ip 192.0.2.7 --policies policies/
  deputy policy simulate --agent bookkeeper --tool payments.send --application ledger
  deputy policy simulate --file no-night-shifts.cedar --since 24h`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			if f.since != "" {
				return a.replayDrafts(ctx, c, &f, cmp.Or(b.file, f.policies))
			}
			request, err := b.or(a, func() (any, error) { return f.make(a) })
			if err != nil {
				return err
			}
			s, err := c.Simulate(ctx, request)
			if err != nil {
				return err
			}
			return a.showSimulation(s)
		}),
	}
	flags, r := cmd.Flags(), &f.request
	flags.StringVar(&r.AgentID, "agent", "", "the agent that asks")
	flags.StringVar(&r.PrincipalUserID, "principal", "", "the user it acts for; absent: nobody")
	flags.StringArrayVar(&f.scopes, "scope", nil, "a scope that it asks for (repeatable; default the agent's own)")
	flags.StringArrayVar(&r.Audience, "audience", nil, "an application that the session is for (repeatable)")
	flags.StringVar(&r.TriggerReason, "reason", "", "what set it off")
	flags.Int64Var(&r.MaxDuration, "seconds", 0, "the longest session that it asks for")
	flags.BoolVar(&r.Lends, "lends", false, "as for a runtime, which lends in the principal's name where there is no delegation")
	flags.StringArrayVar(&r.Chain, "after", nil, "an agent before it in the chain (repeatable, the first one first)")
	flags.StringVar(&f.tool.Name, "tool", "", "a tool that it calls, of --application")
	flags.StringVar(&f.tool.ApplicationID, "application", "", "whose tool it is")
	flags.StringVar(&f.tool.RequiredScope, "required-scope", "", "the scope that the tool needs")
	flags.StringVar(&r.SourceIP, "source-ip", "", "the address that it asks from; absent: none is known")
	flags.StringVar(&f.at, "time", "", "when it asks, in RFC 3339; absent: now")
	flags.BoolVar(&r.Approved, "approved", false, "as if a human had approved it")
	flags.StringVar(&f.policies, "policies", "", "folder with drafts NAME"+cedarSuffix+", or one such file")
	flags.StringVar(&f.since, "since", "", "replay the audit trail from then on: a time, or how long ago, such as 24h; --file or --policies has the drafts")
	flags.IntVar(&f.examples, "examples", wire.DefaultReplayedShown, "with --since: how many records to show")
	b.flag(cmd, "agent", "policies")
	cmd.MarkFlagsOneRequired("agent", "file", "since")
	for _, single := range []string{"principal", "scope", "audience", "reason", "seconds", "lends", "after", "tool", "source-ip", "time", "approved"} {
		cmd.MarkFlagsMutuallyExclusive("since", single)
	}
	before(cmd, func() error {
		if f.since != "" {
			a.patience = max(a.patience, replayPatience)
		}
		if f.examples < 1 || f.examples > wire.MaxReplayedShown {
			return usagef("--examples is %d; it must be between 1 and %d", f.examples, wire.MaxReplayedShown)
		}
		return nil
	})
	cmd.MarkFlagsRequiredTogether("tool", "application")
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	return cmd
}

func (f *simulateFlags) make(a *app) (any, error) {
	r := &f.request
	var err error
	if r.RequestedScopes, err = scopes(f.scopes); err != nil {
		return nil, err
	}
	if f.tool.Name != "" {
		r.Tool = &f.tool
	}
	if f.at != "" {
		if err := r.Time.UnmarshalText([]byte(f.at)); err != nil {
			return nil, usagef("--time %v", err)
		}
	}
	if f.policies != "" {
		if r.Policies, err = a.drafts(f.policies); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (a *app) showSimulation(x *wire.Simulation) error {
	return a.show(x, func(s *sheet) {
		s.field("Action", x.Action)
		s.field("Allowed", yesNo(x.Allowed))
		if r := x.Refusal; r != nil {
			s.field("Because", string(r.Code))
			s.field("Policy", r.PolicyID)
			s.field("Detail", r.Detail)
			s.field("Hint", r.Hint)
		}
		if n := x.Session; n != nil {
			s.field("Scopes", string(n.Scopes))
			s.field("Audience", joined(n.Audience))
			s.field("Lasts", secondsText(n.ExpiresIn))
		}
		s.gap()
		s.row("RULE OR POLICY", "MODE", "OUTCOME", "DETAIL")
		for _, r := range x.Rules {
			s.row(r.Rule, "", r.Outcome, r.Detail)
		}
		for _, p := range x.Policies {
			s.row(p.PolicyID, string(p.Mode), p.Outcome, p.ApplicationID+p.Detail)
		}
	})
}
