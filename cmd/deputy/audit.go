package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

func (a *app) auditCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "audit",
		Short: "The audit trail: who did what on whose behalf, and what was decided",
	}, a.auditTail(), a.auditQuery(), a.auditSession(), a.auditVerify(), a.auditProve(), a.auditCheckpoints(), a.auditSinks())
}

// auditFlags are what narrows the trail.
type auditFlags struct {
	filter   client.AuditFilter
	from, to string
}

func (f *auditFlags) add(a *app, cmd *cobra.Command) {
	flags := cmd.Flags()
	for _, text := range []struct {
		to        *string
		name, doc string
	}{
		{&f.filter.Agent, "agent", "only what this agent did, alone or in a chain"},
		{&f.filter.Principal, "principal", "only on behalf of this person; autonomous: of nobody"},
		{&f.filter.Session, "session", "only of this session"},
		{&f.filter.Kind, "kind", "only these kinds, separated by commas: mint, exchange, introspect, tool, revoke, admin, refuse …"},
		{&f.filter.Tool, "tool", "only calls of this tool"},
		{&f.filter.Decision, "decision", "allowed or denied"},
		{&f.filter.Outcome, "outcome", "success or failure"},
		{&f.filter.Policy, "policy", "only what this policy decided, or would have"},
		{&f.filter.Delegation, "delegation", "only what rests on this delegation"},
		{&f.filter.Approval, "approval", "only what this approval was asked for, given or used up by"},
		{&f.filter.Application, "application", "only what this application asked or reported"},
		{&f.filter.Credential, "credential", "only of callers that proved themselves with this"},
		{&f.filter.Target, "target", "only what was done to this, such as agents/inbox-assistant"},
		{&f.filter.SourceIP, "source-ip", "only from this address"},
		{&f.filter.RequestID, "request", "only what came of this request"},
		{&f.filter.TraceID, "trace", "only what belongs to this trace"},
		{&f.from, "from", "not before: a time such as 2026-04-17T08:00:00Z, or how long ago, such as 2h"},
		{&f.to, "to", "before: a time, or how long ago"},
	} {
		flags.StringVar(text.to, text.name, "", text.doc)
	}
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	mustComplete(cmd.RegisterFlagCompletionFunc("application", a.completeApplications()))
}

func (f *auditFlags) read(now time.Time) (err error) {
	if f.filter.From, err = timeOrAgo("from", f.from, now); err == nil {
		f.filter.To, err = timeOrAgo("to", f.to, now)
	}
	return err
}

func timeOrAgo(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("--%s is %q; it must be a time such as 2026-04-17T08:00:00Z, or how long ago, such as 2h", flag, text)
	}
	return at, nil
}

func (a *app) auditQuery() *cobra.Command {
	var f auditFlags
	var l listing
	cmd := &cobra.Command{
		Use:     "query",
		Aliases: []string{"list"},
		Short:   "Read the audit trail of all nodes, newest first",
		Example: `  deputy audit query --agent inbox-assistant --decision denied --from 24h
  deputy audit query --kind revoke,admin --oldest-first -o json
  deputy audit query --policy scopes-within-defaults --all -o json | jq -r '.[].session'`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			if err := f.read(a.now()); err != nil {
				return err
			}
			return a.showAudit(ctx, &l, func(ctx context.Context, l client.List) (*client.AuditPage, error) { return c.Audit(ctx, f.filter, l) })
		}),
	}
	f.add(a, cmd)
	l.flags(cmd)
	cmd.Flags().BoolVar(&f.filter.OldestFirst, "oldest-first", false, "begin with the oldest")
	return cmd
}

func (a *app) auditSession() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:   "session ID",
		Short: "Tell everything that a session did, in order",
		Example: `  deputy audit session ses_01ks8n1x5b5e5fh2wwt0rrnq7a
  deputy audit session ses_01ks8n1x5b5e5fh2wwt0rrnq7a -o json`,
		Args: exactly("the session's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			l.all = true
			err := a.showAudit(ctx, &l, func(ctx context.Context, l client.List) (*client.AuditPage, error) {
				return c.SessionAudit(ctx, args[0], l)
			})
			if err != nil || a.output != formatTable {
				return err
			}
			hops, err := c.Audit(ctx, client.AuditFilter{Target: args[0], Kind: "exchange", OldestFirst: true}, client.List{Limit: 1000})
			if err != nil {
				return err
			}
			for i := range hops.Items {
				if hop := &hops.Items[i]; hop.Decision == "allowed" && hop.Session != "" {
					a.note("it was handed on: %s is session %s; 'deputy audit session %s' tells what that did", chainText(hop), hop.Session, hop.Session)
				}
			}
			return nil
		}),
	}
	return cmd
}

// showAudit gets the page asked for, or all of them.
func (a *app) showAudit(ctx context.Context, l *listing, get func(context.Context, client.List) (*client.AuditPage, error)) error {
	records, nodes, next := []wire.AuditRecord{}, map[string]string{}, ""
	for {
		p, err := get(ctx, l.list)
		if err != nil {
			return err
		}
		records = append(records, p.Items...)
		for _, n := range p.Nodes {
			if !n.Replied {
				nodes[n.ID] = n.Error
			}
		}
		if next = p.Next; !l.all || next == "" || next == l.list.After {
			break
		}
		l.list.After = next
	}
	err := a.show(records, func(s *sheet) {
		s.row("TIME", "NODE", "KIND", "DECISION", "WHO", "WHAT", "REASON", "SESSION")
		for i := range records {
			r := &records[i]
			s.row(r.Time.Time().Format("2006-01-02 15:04:05.000Z"), fmt.Sprintf("%s:%d", r.Node, r.Sequence), r.Kind, decisionText(r),
				chainText(r), brief(whatText(r)), r.Reason, r.Session)
		}
	})
	if err != nil {
		return err
	}
	if next != "" && !l.all {
		a.note("there are more: --after %s, or --all", next)
	}
	a.noteSilent(nodes)
	return nil
}

// noteSilent warns of every node whose records are missing.
func (a *app) noteSilent(nodes map[string]string) {
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		a.note("warning: the records of %s are missing: %s", id, nodes[id])
	}
}

// chainText shows on whose behalf something was done: user → agent → sub-agent; where no agent acted, who did.
func chainText(r *wire.AuditRecord) string {
	var links []string
	for _, link := range r.Chain {
		links = append(links, link.User+link.Agent)
	}
	switch {
	case len(links) > 0:
		return strings.Join(links, " → ")
	case r.Agent != "":
		return r.Agent
	case r.Principal != "":
		return r.Principal
	case r.Application != "":
		return r.Application
	case r.Credential != "":
		return r.Credential
	}
	return r.SourceIP
}

// whatText shows what was done, to what.
func whatText(r *wire.AuditRecord) string {
	parts := []string{r.Tool, r.Action, r.Target}
	if r.Kind == "mint" || r.Kind == "exchange" {
		parts = []string{r.Scope}
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

func decisionText(r *wire.AuditRecord) string {
	if r.Decision == "allowed" && r.Outcome == "failure" {
		return "allowed, failed"
	}
	return r.Decision
}

// followEvery is how often tail -f asks for what is new.
const followEvery = time.Second

func (a *app) auditTail() *cobra.Command {
	var f auditFlags
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest records, and with -f those to come",
		Example: `  deputy audit tail -f
  deputy audit tail -f --decision denied -o json | jq -r .reason`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(a.checkFormat(), f.read(a.now())); err != nil {
				return err
			}
			if lines < 1 || lines > 1000 {
				return usagef("--lines is %d; it must be between 1 and 1000", lines)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			a.started = true
			return a.tail(cmd.Context(), c, &f.filter, lines, follow)
		},
	}
	f.add(a, cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().IntVarP(&lines, "lines", "n", 20, "how many to begin with")
	return cmd
}

// tail shows records one a line: what the others of a table are not known yet. JSON is that of the log, a record a line.
func (a *app) tail(ctx context.Context, c *client.Client, f *client.AuditFilter, lines int, follow bool) error {
	ask := func(f client.AuditFilter, l client.List) (*client.AuditPage, error) {
		ctx, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		p, err := c.Audit(ctx, f, l)
		return p, late(ctx, err, a.timeout)
	}
	p, err := ask(*f, client.List{Limit: lines})
	if err != nil {
		return err
	}
	since := a.now()
	shown := map[string]bool{}
	for _, r := range slices.Backward(p.Items) {
		if err := a.tailLine(&r); err != nil {
			return err
		}
		since, shown[r.Hash] = r.Time.Time(), true
	}
	silent := map[string]string{}
	later := *f
	later.From, later.OldestFirst = since, true
	for cursor := ""; follow; {
		for _, n := range p.Nodes {
			if n.Error != silent[n.ID] {
				silent[n.ID] = n.Error
				if n.Error != "" {
					a.note("warning: the records of %s are missing: %s", n.ID, n.Error)
				}
			}
		}
		if p, err = ask(later, client.List{After: cursor}); err != nil {
			break
		}
		for i := range p.Items {
			if shown[p.Items[i].Hash] {
				continue
			}
			if err := a.tailLine(&p.Items[i]); err != nil {
				return err
			}
		}
		if cursor = p.Cursor; p.Next != "" {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(followEvery):
		}
		if ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return nil // interrupted, which is how it ends
	}
	return err
}

func (a *app) tailLine(r *wire.AuditRecord) error {
	switch a.output {
	case formatJSON:
		_, err := fmt.Fprintf(a.out, "%s\n", r.Line)
		return err
	case formatYAML:
		if _, err := fmt.Fprintln(a.out, "---"); err != nil {
			return err
		}
		return writeYAML(a.out, r)
	}
	parts := []string{
		r.Time.Time().Format("15:04:05.000"), fmt.Sprintf("%s:%d", r.Node, r.Sequence), r.Kind, decisionText(r), chainText(r), whatText(r), r.Reason, r.Session,
	}
	_, err := fmt.Fprintln(a.out, printable(strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "  ")))
	return err
}
