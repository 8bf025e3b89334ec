package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// body is the request body of a command: the file of -f as it stands, or what the flags say.
type body struct{ file string }

// flag adds -f and makes it exclude the flags that would say the same.
func (b *body) flag(cmd *cobra.Command, instead ...string) {
	cmd.Flags().StringVarP(&b.file, "file", "f", "", "take the API's JSON from a file, or from standard input with -")
	for _, name := range instead {
		cmd.MarkFlagsMutuallyExclusive("file", name)
	}
}

// or returns the file's JSON, or else what made makes.
func (b *body) or(a *app, made func() (any, error)) (any, error) {
	if b.file != "" {
		return a.readBody(b.file)
	}
	return made()
}

// nameOrFile takes one name, or none with -f.
func (b *body) nameOrFile(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case b.file == "" && len(args) == 0:
			return usagef("the %s is missing; name it, or give its JSON with -f FILE", what)
		case b.file != "" && len(args) > 0:
			return usagef("the %s %q is given beside -f; the file names it already", what, args[0])
		case len(args) > 1:
			return usagef("one %s at a time; %d are given", what, len(args))
		}
		return nil
	}
}

// exactly wants the named arguments, no more and no less.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return usagef("%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

// listing is the flags of every list.
type listing struct {
	list client.List
	all  bool
}

func (l *listing) flags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&l.list.Limit, "limit", 0, "items in one answer (default 100, at most 1000)")
	cmd.Flags().StringVar(&l.list.After, "after", "", "go on after this item")
	cmd.Flags().BoolVar(&l.all, "all", false, "every page, one after the other")
}

// read gets the page asked for, or all of them.
func read[T any](ctx context.Context, l *listing, get func(context.Context, client.List) (*client.Page[T], error)) (*client.Page[T], error) {
	if !l.all {
		return get(ctx, l.list)
	}
	p := &client.Page[T]{}
	for item, err := range client.All(ctx, l.list, get) {
		if err != nil {
			return nil, err
		}
		p.Items = append(p.Items, item)
	}
	return p, nil
}

// scopes checks scopes before they travel, so that the message names the flag.
func scopes(names []string) (identity.Scopes, error) {
	s, err := identity.NewScopes(names)
	if err != nil {
		return "", usagef("--scope %v", err)
	}
	return s, nil
}

// expiry turns a duration of the command line into an instant; 0 is never.
func (a *app) expiry(in time.Duration) (identity.Instant, error) {
	if in < 0 {
		return 0, usagef("--expires-in is %s; it must not be negative", in)
	}
	if in == 0 {
		return 0, nil
	}
	return identity.InstantOf(a.now().Add(in)), nil
}

// holder is the flags that say whose credential a command uses.
type holder struct {
	id   string
	file string
	key  string
}

func (h *holder) flags(cmd *cobra.Command, whose string) {
	cmd.Flags().StringVar(&h.id, "client-id", "", "id of the "+whose+" (default $"+envClientID+")")
	cmd.Flags().StringVar(&h.file, "client-secret-file", "", "file with its secret, - for standard input (default $"+envClientSecret+")")
	cmd.Flags().StringVar(&h.key, "client-key-file", "", "file with its private key in PEM, in place of a secret (private_key_jwt)")
	cmd.MarkFlagsMutuallyExclusive("client-secret-file", "client-key-file")
}

// keyFile reads a private key.
func (a *app) keyFile(path string) (*client.Key, error) {
	text, err := a.readFile(path, maxSecretFile)
	if err != nil {
		return nil, err
	}
	key, err := client.ParseKey(text)
	if err != nil {
		return nil, usagef("%s: %v", path, err)
	}
	return key, nil
}

const maxSecretFile = 4096

func (h *holder) credentials(a *app) (client.Credentials, error) {
	c := client.Credentials{ID: h.id, Secret: os.Getenv(envClientSecret)}
	if c.ID == "" {
		c.ID = os.Getenv(envClientID)
	}
	if h.file != "" {
		text, err := a.readFile(h.file, maxSecretFile)
		if err != nil {
			return c, err
		}
		c.Secret = strings.TrimSpace(string(text))
	}
	if h.key != "" {
		key, err := a.keyFile(h.key)
		if err != nil {
			return c, err
		}
		c.Key, c.Secret = key, ""
	}
	if c.ID == "" || c.Secret == "" && c.Key == nil {
		return c, usagef("a client's id and secret are needed: set %s and %s, or use --client-id and --client-secret-file or --client-key-file", envClientID, envClientSecret)
	}
	return c, nil
}

// tokenArgument takes a token from the command line, or with - from standard input, where no other user of
// the machine can read it.
func (a *app) tokenArgument(argument string) (string, error) {
	if argument != "-" {
		return argument, nil
	}
	text, err := a.readFile("-", 64<<10)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", usagef("standard input holds no token")
	}
	return token, nil
}

// complete offers names from the cluster while the user types, if it answers at once.
func (a *app) complete(names func(context.Context, *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		found, err := names(ctx, c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeAgents() cobra.CompletionFunc {
	return a.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		p, err := c.Agents(ctx, client.List{})
		if err != nil {
			return nil, err
		}
		names := make([]string, len(p.Items))
		for i := range p.Items {
			names[i] = p.Items[i].ID
		}
		return names, nil
	})
}

func (a *app) completeApplications() cobra.CompletionFunc {
	return a.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		p, err := c.Applications(ctx, client.List{})
		if err != nil {
			return nil, err
		}
		names := make([]string, len(p.Items))
		for i := range p.Items {
			names[i] = p.Items[i].ID
		}
		return names, nil
	})
}

// patch is a merge patch from a file, or the one that flags made, which must not be empty.
func (b *body) patch(a *app, made map[string]any) (any, error) {
	return b.or(a, func() (any, error) {
		if len(made) == 0 {
			return nil, usagef("nothing to change is given; name a flag, or a merge patch with -f FILE")
		}
		text, err := json.Marshal(made)
		if err != nil {
			return nil, fmt.Errorf("encoding the patch: %w", err)
		}
		return json.RawMessage(text), nil
	})
}
