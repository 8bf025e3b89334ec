package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// maxProfileBytes bounds a CPU profile; a minute of one server has a few hundred kilobytes.
const maxProfileBytes = 64 << 20

// profile takes a CPU profile of the run's own server while the rounds last, where one was asked for. The
// channel yields one error or nil. Half the samples fall into the ceilings' turns and are simply missing.
func (r *run) profile(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if r.Profile == "" || r.ops == "" {
		done <- nil
		return done
	}
	// Every subject's turn, rounded down so that the profile is there when the rounds are.
	seconds := int(r.Duration.Seconds() * float64(len(r.subjects)))
	go func() { done <- fetchProfile(ctx, r.ops, max(1, seconds), r.Profile) }()
	return done
}

func fetchProfile(ctx context.Context, ops string, seconds int, path string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+startTimeout)
	defer cancel()
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", ops, seconds)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("taking a profile: the server answered %s", response.Status)
	}
	profile, err := io.ReadAll(io.LimitReader(response.Body, maxProfileBytes))
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	if err := os.WriteFile(path, profile, 0o600); err != nil {
		return fmt.Errorf("keeping the profile: %w", err)
	}
	return nil
}
