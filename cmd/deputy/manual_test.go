package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// inManual finds a command of deputy's in code: up to what ends it for the shell or the text.
var inManual = regexp.MustCompile("(?:^|[\\s`(\"'])(?:\\./bin/)?deputy ([^`|<>;#)]*)")

// commandsIn returns the commands that a manual's code tells to type, without the program's name.
func commandsIn(text string) (commands []string) {
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		var code []string
		if fenced || strings.HasPrefix(line, "    ") {
			code = []string{line}
		} else {
			for i, part := range strings.Split(line, "`") {
				if i%2 == 1 {
					code = append(code, part)
				}
			}
		}
		for _, c := range code {
			for _, match := range inManual.FindAllStringSubmatch(c, -1) {
				commands = append(commands, strings.TrimSpace(match[1]))
			}
		}
	}
	return commands
}

func TestCommandsAreFoundInCode(t *testing.T) {
	require.Equal(t, []string{"a b --c", "d", "e --f", "g -", "h"}, commandsIn(
		"Speak of deputy as you like, of `deputy a b --c`.\n\n    ./bin/deputy d | jq # x\n    X=$(deputy e --f)\n```\n$ deputy g - < file\nx | deputy h\n```\ndeputy j\n"))
}

func TestManualsNameCommandsThatExist(t *testing.T) {
	root := (&app{}).root()
	root.InitDefaultCompletionCmd()
	manuals, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	found := 0
	for _, manual := range append(manuals, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(manual)
		require.NoError(t, err)
		for _, command := range commandsIn(string(text)) {
			if strings.HasPrefix(command, "NOUN") {
				continue
			}
			found++
			requireCommand(t, root, manual, command)
		}
	}
	require.Greater(t, found, 30, "the manuals were not understood")
}

func TestExamplesNameFlagsThatExist(t *testing.T) {
	root := (&app{}).root()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, command := range append(commandsIn("```\n"+c.Example+"\n```"), commandsIn(strings.ReplaceAll(c.Long, "\n  deputy ", "\n    deputy "))...) {
			requireCommand(t, root, "the help of "+c.CommandPath(), command)
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(root)
}

func requireCommand(t *testing.T, root *cobra.Command, where, command string) {
	t.Helper()
	words := strings.Fields(command)
	c, rest, err := root.Find(words)
	require.NoError(t, err, "%s: deputy %s", where, command)
	if len(rest) > 0 && c.HasSubCommands() {
		require.True(t, strings.HasPrefix(rest[0], "-"), "%s: deputy %s: there is no %q", where, command, rest[0])
	}
	c.InitDefaultHelpFlag()
	for _, word := range words {
		name, _, _ := strings.Cut(strings.TrimRight(word, "]},.'\""), "=")
		if long, ok := strings.CutPrefix(strings.TrimLeft(name, "["), "--"); ok && long != "" {
			known := c.Flags().Lookup(long) != nil || c.InheritedFlags().Lookup(long) != nil
			require.True(t, known, "%s: deputy %s: there is no flag --%s", where, command, long)
		}
	}
}
