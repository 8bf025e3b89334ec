package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func (a *app) applicationCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "application",
		Aliases: []string{"applications", "app"},
		Short:   "Applications: the downstream systems that agents call",
	},
		a.applicationCreate(), a.applicationGet(), a.applicationList(), a.applicationUpdate(), a.applicationDelete(),
		a.credentialCommand(ofApplications),
	)
}

type applicationFlags struct {
	description, audience, verification string
	scopes, tags                        []string
}

var applicationFlagNames = []string{"description", "audience", "scope", "tag", "verification"}

func (f *applicationFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.description, "description", "", "what it is")
	flags.StringVar(&f.audience, "audience", "", "absolute URI that its tokens are meant for, such as https://company.zendesk.com")
	flags.StringArrayVar(&f.scopes, "scope", nil, "a scope that belongs to it (repeatable)")
	flags.StringArrayVar(&f.tags, "tag", nil, "such as production-write (repeatable)")
	flags.StringVar(&f.verification, "verification", string(identity.VerifyOnline), "how it checks tokens: online or offline")
	mustComplete(cmd.RegisterFlagCompletionFunc("verification", cobra.FixedCompletions(
		[]string{string(identity.VerifyOnline), string(identity.VerifyOffline)}, cobra.ShellCompDirectiveNoFileComp)))
}

func (f *applicationFlags) patch(cmd *cobra.Command) (map[string]any, error) {
	patch := map[string]any{}
	given := cmd.Flags().Changed
	if given("description") {
		patch["description"] = f.description
	}
	if given("audience") {
		patch["audience"] = f.audience
	}
	if given("scope") {
		s, err := scopes(f.scopes)
		if err != nil {
			return nil, err
		}
		patch["scopes"] = s
	}
	if given("tag") {
		patch["tags"] = f.tags
	}
	if given("verification") {
		patch["verification"] = f.verification
	}
	return patch, nil
}

func (a *app) applicationCreate() *cobra.Command {
	var f applicationFlags
	var b body
	var withSecret bool
	cmd := &cobra.Command{
		Use:   "create NAME | create -f FILE",
		Short: "Make an application",
		Example: `  deputy application create zendesk --audience https://company.zendesk.com \
    --scope zendesk.tickets.read --scope zendesk.tickets.assign --with-secret`,
		Args: b.nameOrFile("application"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			request, err := b.or(a, func() (any, error) {
				s, err := scopes(f.scopes)
				return &wire.ApplicationRequest{
					Name: args[0], Description: f.description, Audience: f.audience, Scopes: s,
					Tags: f.tags, Verification: identity.Verification(f.verification),
				}, err
			})
			if err != nil {
				return err
			}
			application, err := c.CreateApplication(ctx, request, withSecret)
			if err != nil {
				return err
			}
			return a.showApplication(application)
		}),
	}
	f.add(cmd)
	b.flag(cmd, applicationFlagNames...)
	cmd.Flags().BoolVar(&withSecret, "with-secret", false, "also make a credential for introspection and show its secret, once")
	return cmd
}

func (a *app) applicationGet() *cobra.Command {
	return &cobra.Command{
		Use:               "get NAME",
		Short:             "Show an application",
		Example:           "  deputy application get zendesk",
		Args:              exactly("the application's name"),
		ValidArgsFunction: a.completeApplications(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			application, err := c.Application(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showApplication(application)
		}),
	}
}

func (a *app) applicationList() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List applications",
		Example: "  deputy application list",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := read(ctx, &l, c.Applications)
			if err != nil {
				return err
			}
			return showPage(a, p, "NAME AUDIENCE VERIFICATION SCOPES TAGS", func(s *sheet, r *wire.Application) {
				s.row(r.ID, r.Audience, string(r.Verification), brief(string(r.Scopes)), brief(joined(r.Tags)))
			})
		}),
	}
	l.flags(cmd)
	return cmd
}

func (a *app) applicationUpdate() *cobra.Command {
	var f applicationFlags
	var b body
	cmd := &cobra.Command{
		Use:               "update NAME",
		Short:             "Change an application; a repeatable flag replaces the whole list",
		Example:           "  deputy application update zendesk --tag production-write",
		Args:              exactly("the application's name"),
		ValidArgsFunction: a.completeApplications(),
	}
	cmd.RunE = a.does(func(ctx context.Context, c *client.Client, args []string) error {
		made, err := f.patch(cmd)
		if err != nil {
			return err
		}
		patch, err := b.patch(a, made)
		if err != nil {
			return err
		}
		application, err := c.PatchApplication(ctx, args[0], patch)
		if err != nil {
			return err
		}
		return a.showApplication(application)
	})
	f.add(cmd)
	b.flag(cmd, applicationFlagNames...)
	return cmd
}

func (a *app) applicationDelete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME",
		Short:             "Delete an application",
		Example:           "  deputy application delete zendesk",
		Args:              exactly("the application's name"),
		ValidArgsFunction: a.completeApplications(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			deleted, err := c.DeleteApplication(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showDeleted(deleted, &stopFlags{})
		}),
	}
}

func (a *app) showApplication(p *wire.Application) error {
	return a.show(p, func(s *sheet) {
		s.field("Name", p.ID)
		s.field("Description", p.Description)
		s.field("Audience", p.Audience)
		s.field("Scopes", string(p.Scopes))
		s.field("Tags", joined(p.Tags))
		s.field("Verification", string(p.Verification))
		s.credentials(p.Credentials)
		s.field("Created", s.when(p.CreatedAt))
		s.field("Updated", s.when(p.UpdatedAt))
		s.newCredential(p.Credential)
	})
}
