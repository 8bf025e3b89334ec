package api

import (
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// showSettings shows settings with what follows from the state's past.
func showSettings(s *identity.Settings, v *fsm.View) wire.Settings {
	return wire.Settings{
		ClusterID: s.ClusterID, Issuer: s.Issuer, ExternalURLs: entries(s.ExternalURLs),
		OfflineTokenTTLSeconds: s.OfflineTTLSeconds, LeaseMilliseconds: s.LeaseMillis, KeyRotationSeconds: s.KeyRotationSeconds,
		RevocationsKeptSeconds: int64(v.RevocationsKept() / time.Second), DeletionsKnownSince: v.DeletionsKnownSince(),
	}
}

func (a *API) getSettings(c *call) error {
	return c.answer(fasthttp.StatusOK, showSettings(c.view.Settings(), c.view))
}

// patchSettings runs at the leader, one at a time: the command puts all settings, so that of two changes from the
// same state the second would undo the first.
func (a *API) patchSettings(c *call) error {
	if err := c.wantMedia(mediaMergePatch, contentTypeJSON); err != nil {
		return err
	}
	a.settings.Lock()
	defer a.settings.Unlock()
	current := a.FSM.View().Settings()
	request, err := mergePatch(wire.SettingsUpdate{
		ExternalURLs: current.ExternalURLs, OfflineTokenTTLSeconds: current.OfflineTTLSeconds,
		LeaseMilliseconds: current.LeaseMillis, KeyRotationSeconds: current.KeyRotationSeconds,
	}, c.ctx.PostBody())
	if err != nil {
		return err
	}
	next := *current
	next.ExternalURLs, next.OfflineTTLSeconds = request.ExternalURLs, request.OfflineTokenTTLSeconds
	next.LeaseMillis, next.KeyRotationSeconds = request.LeaseMilliseconds, request.KeyRotationSeconds
	next.GossipKeys = nil // theirs is another command, and these might be old
	if err := next.Validate(); err != nil {
		return err
	}
	put, _, err := proposed[*identity.Settings](a, c, fsm.PutSettings{Settings: next})
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showSettings(put, a.FSM.View()))
}
