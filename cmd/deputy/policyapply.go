package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const (
	cedarSuffix = ".cedar"
	// policySettings is the file of a folder of policies that says what their texts do not.
	policySettings = "policies.yaml"
)

// policyFile is a policy as a folder has it. What is empty stays as it is in the cluster.
type policyFile struct {
	ID          string
	Text        string
	Mode        string `yaml:"mode"`
	Description string `yaml:"description"`
}

// readPolicy reads the text of a policy, without the newline that ends a file.
func (a *app) readPolicy(path string) (string, error) {
	text, err := a.readFile(path, identity.MaxPolicyLength+1)
	return strings.TrimSuffix(string(text), "\n"), err
}

// readPolicies reads a folder of policies, or a single file, and holds each to the schema.
func (a *app) readPolicies(path string) ([]policyFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	paths, settings := []string{path}, map[string]policyFile{}
	if info.IsDir() {
		if paths, err = filepath.Glob(filepath.Join(path, "*"+cedarSuffix)); err != nil {
			return nil, err
		}
		if settings, err = a.readSettings(filepath.Join(path, policySettings)); err != nil {
			return nil, err
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s holds no file that ends in %s", path, cedarSuffix)
	}
	var files []policyFile
	var wrong []error
	for _, p := range paths {
		id, isCedar := strings.CutSuffix(filepath.Base(p), cedarSuffix)
		if !isCedar {
			return nil, fmt.Errorf("%s does not end in %s; a policy's id is the rest of its file's name", p, cedarSuffix)
		}
		f := settings[id]
		delete(settings, id)
		f.ID = id
		if f.Text, err = a.readPolicy(p); err != nil {
			return nil, err
		}
		checked := identity.Policy{ID: id, Text: f.Text, Description: f.Description, Mode: identity.PolicyEnforce}
		if f.Mode != "" {
			checked.Mode = identity.PolicyMode(f.Mode)
		}
		if err := policy.Check(&checked); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", p, err))
		}
		files = append(files, f)
	}
	for id := range settings {
		wrong = append(wrong, fmt.Errorf("%s speaks of %q, of which there is no file %s", policySettings, id, id+cedarSuffix))
	}
	return files, errors.Join(wrong...)
}

func (a *app) readSettings(path string) (map[string]policyFile, error) {
	text, err := a.readFile(path, wire.MaxBodyBytes)
	if errors.Is(err, os.ErrNotExist) {
		return map[string]policyFile{}, nil
	}
	if err != nil {
		return nil, err
	}
	var settings map[string]struct {
		Mode        string `yaml:"mode"`
		Description string `yaml:"description"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&settings); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	out := make(map[string]policyFile, len(settings))
	for id, s := range settings {
		out[id] = policyFile{Mode: s.Mode, Description: s.Description}
	}
	return out, nil
}

// policyChange is one thing that apply does.
type policyChange struct {
	PolicyID string   `json:"policy_id"`
	Change   string   `json:"change"` // create, change, delete or none
	Diff     []string `json:"diff,omitempty"`

	request wire.PolicyRequest
	current *wire.Policy
}

const (
	changeCreate = "create"
	changeChange = "change"
	changeDelete = "delete"
	changeNone   = "none"
)

func (a *app) policyApply() *cobra.Command {
	var file string
	var dryRun, yes, prune bool
	cmd := &cobra.Command{
		Use:   "apply -f DIR",
		Short: "Have the cluster's policies be those of a folder",
		Long: `Have the cluster's policies be those of a folder: NAME.cedar is the text of policy NAME. Modes and descriptions
stay as they are, and a new policy is enforced, but for what a file policies.yaml beside them says:

  no-night-shifts: {mode: monitor, description: Contractors' agents don't work at night}

Every text is checked before anything is changed, and what would change is shown first.`,
		Example: "  deputy policy apply -f policies/ --dry-run\n  deputy policy apply -f policies/ --prune --yes",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			files, err := a.readPolicies(file)
			if err != nil {
				return err
			}
			changes, err := planPolicies(ctx, c, files, prune)
			if err != nil {
				return err
			}
			if err := a.showChanges(changes); err != nil {
				return err
			}
			changes = slices.DeleteFunc(changes, func(p policyChange) bool { return p.Change == changeNone })
			if dryRun || len(changes) == 0 {
				return nil
			}
			if !yes && !a.agreed(len(changes)) {
				return errors.New("nothing was changed; --yes asks nothing")
			}
			for i := range changes {
				if err := changes[i].apply(ctx, c); err != nil {
					return fmt.Errorf("policy %s, after %d of %d changes: %w", changes[i].PolicyID, i, len(changes), err)
				}
			}
			a.note("%d changed; in force at every node from index %d on", len(changes), c.Index())
			return nil
		}),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "folder with files NAME"+cedarSuffix+", or one such file")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic("BUG: " + err.Error())
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing; show what would change")
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask before changing anything")
	cmd.Flags().BoolVar(&prune, "prune", false, "also delete policies that the folder does not have")
	return cmd
}

// agreed asks the person at the terminal. No answer is a no.
func (a *app) agreed(changes int) bool {
	fmt.Fprintf(a.err, "apply %d changes? [y/N] ", changes)
	answer, _ := bufio.NewReader(io.LimitReader(a.in, 64)).ReadString('\n') //nolint:errcheck // what was read until then counts
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// planPolicies compares the files with the cluster. A change is made only where the policy is still the one that was
// compared.
func planPolicies(ctx context.Context, c *client.Client, files []policyFile, prune bool) ([]policyChange, error) {
	there := map[string]*wire.Policy{}
	for p, err := range client.All(ctx, client.List{}, c.Policies) {
		if err != nil {
			return nil, err
		}
		there[p.ID] = &p
	}
	var changes []policyChange
	for _, f := range files {
		current := there[f.ID]
		delete(there, f.ID)
		changes = append(changes, f.change(current))
	}
	if prune {
		for _, p := range there {
			changes = append(changes, policyChange{PolicyID: p.ID, Change: changeDelete, Diff: diff(p.Text, ""), current: p})
		}
	}
	slices.SortFunc(changes, func(x, y policyChange) int { return strings.Compare(x.PolicyID, y.PolicyID) })
	return changes, nil
}

func (f *policyFile) change(current *wire.Policy) policyChange {
	p := policyChange{PolicyID: f.ID, Change: changeCreate, current: current, request: wire.PolicyRequest{
		ID: f.ID, Text: f.Text, Mode: identity.PolicyMode(f.Mode), Description: f.Description,
	}}
	if p.request.Mode == "" {
		p.request.Mode = identity.PolicyEnforce
		if current != nil {
			p.request.Mode = current.Mode
		}
	}
	var was wire.Policy
	if current != nil {
		was, p.Change = *current, changeChange
		if p.request.Description == "" {
			p.request.Description = current.Description
		}
	}
	for _, field := range []struct{ name, was, is string }{
		{"mode", string(was.Mode), string(p.request.Mode)}, {"description", was.Description, p.request.Description},
	} {
		if field.was != field.is {
			if field.was != "" {
				p.Diff = append(p.Diff, "-"+field.name+": "+field.was)
			}
			p.Diff = append(p.Diff, "+"+field.name+": "+field.is)
		}
	}
	if was.Text != p.request.Text {
		p.Diff = append(p.Diff, diff(was.Text, p.request.Text)...)
	}
	if len(p.Diff) == 0 {
		p.Change = changeNone
	}
	return p
}

func (p *policyChange) apply(ctx context.Context, c *client.Client) error {
	if p.Change == changeDelete {
		_, err := c.DeletePolicy(ctx, p.PolicyID, p.current.Revision)
		return err
	}
	_, err := put(ctx, c, p.request, p.current)
	return err
}

func (a *app) showChanges(changes []policyChange) error {
	if a.output != formatTable {
		return a.show(changes, nil)
	}
	for _, p := range changes {
		if p.Change == changeNone {
			fmt.Fprintf(a.out, "%s: unchanged\n", p.PolicyID)
			continue
		}
		fmt.Fprintf(a.out, "%s: %s\n", p.PolicyID, p.Change)
		if err := a.writeLines("  " + strings.Join(p.Diff, "\n  ")); err != nil {
			return err
		}
	}
	return nil
}

// writeLines writes text of several lines, none of which may steer the terminal.
func (a *app) writeLines(text string) error {
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(a.out, printableCode(strings.TrimRight(line, "\r\n"))); err != nil {
			return err
		}
	}
	return nil
}

// printableCode is printable with the indents of code.
func printableCode(line string) string { return printable(strings.ReplaceAll(line, "\t", "    ")) }

// diffLines bounds the lines that are compared one by one: what it takes grows with their square.
const diffLines = 2000

// diff tells the lines that two texts do not have in common, and those around them that they do: all of it, as a policy
// is short.
func diff(before, after string) (out []string) {
	x, y := splitLines(before), splitLines(after)
	if len(x) > diffLines || len(y) > diffLines {
		return []string{fmt.Sprintf("-%d lines", len(x)), fmt.Sprintf("+%d lines", len(y))}
	}
	// common[i][j] is how many lines x[i:] and y[j:] have in common, in order.
	common := make([][]int, len(x)+1)
	for i := range common {
		common[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); x[i] == y[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			out = append(out, " "+x[i])
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "-"+x[i])
			i++
		default:
			out = append(out, "+"+y[j])
			j++
		}
	}
	return out
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
