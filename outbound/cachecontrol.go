package outbound

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// minFresh is for sources that say no-store or a few seconds: asking more than once a minute would gain little,
	// as an unknown key has them asked anyway, and costs them a request a minute from each node.
	minFresh = time.Minute
	// maxFresh is how long a key may be trusted here after its source has withdrawn it, while the source can be
	// reached.
	maxFresh = time.Hour
	// defaultFresh is for sources that say nothing.
	defaultFresh = 10 * time.Minute
)

// freshFor is how long an answer may be used without asking again (RFC 9111 §4.2), within the bounds above. Of the
// header fields only Cache-Control and Age count: Expires compares two clocks.
func freshFor(h http.Header) time.Duration {
	fresh, said := defaultFresh, false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "no-store", "no-cache":
			return minFresh
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err == nil && !said { // of several the first: RFC 9111 §4.2.1
				fresh, said = time.Duration(seconds)*time.Second, true
			}
		}
	}
	if age, err := strconv.ParseUint(strings.TrimSpace(h.Get("Age")), 10, 31); err == nil && said {
		fresh -= time.Duration(age) * time.Second
	}
	return min(max(fresh, minFresh), maxFresh)
}
