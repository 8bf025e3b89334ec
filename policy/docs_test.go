package policy_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The examples of the manual are policies that would be taken.
func TestExamplesOfTheManualAreValid(t *testing.T) {
	manual, err := os.ReadFile("../docs/policies.md")
	require.NoError(t, err)
	indented := regexp.MustCompile(`(?m)(?:^    .*\n|^\n)+`)
	examples := 0
	for _, block := range indented.FindAllString(string(manual), -1) {
		text := strings.TrimSpace(block)
		if !strings.HasPrefix(text, "@") && !strings.HasPrefix(text, "forbid") {
			continue
		}
		examples++
		require.Empty(t, faults(t, text), text)
	}
	require.Equal(t, 3, examples)
}
