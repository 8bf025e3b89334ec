package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Target is where deliveries go.
type Target struct {
	ID      string // names it in logs, metrics and calls
	URL     string
	Secrets []Secret // one, or two while one is being replaced; each signs
}

// Delivery is one event on its way to one target.
type Delivery struct {
	ID          string // letters, digits, _ and -; the receiver drops one that it has seen
	ContentType string // "": application/json
	Body        []byte
	NotAfter    time.Time // when nobody cares any more; zero: an hour after it was queued
}

// Deliver makes one attempt, stamped and signed now. Nil means that the target has answered with a status of 2xx. An
// error may mean that it has the delivery all the same, so a repetition carries the same id. Errors of the exchange are
// *Error.
func (c *Client) Deliver(ctx context.Context, t Target, d Delivery) error {
	if err := checkSecrets(t.Secrets); err != nil {
		return err
	}
	if err := checkDeliveryID(d.ID); err != nil {
		return err
	}
	if d.ContentType == "" {
		d.ContentType = "application/json"
	}
	return c.Post(ctx, t.URL, http.Header{
		"Content-Type":  {d.ContentType},
		SignatureHeader: {Sign(d.ID, c.clock(), d.Body, t.Secrets...)},
		// Not sent, but tells net/http that a kept connection which the other side has just closed is no reason to
		// fail: the id makes repeating it harmless.
		"Idempotency-Key": {},
	}, d.Body)
}

// checkTarget says what is wrong with a target, as far as that shows without asking it.
func checkTarget(t Target, checkURL func(string) error) error {
	if t.ID == "" {
		return errors.New("a webhook needs an id")
	}
	if err := checkSecrets(t.Secrets); err != nil {
		return fmt.Errorf("webhook %s: %w", t.ID, err)
	}
	if err := checkURL(t.URL); err != nil {
		return fmt.Errorf("webhook %s: %w", t.ID, err)
	}
	return nil
}

func checkSecrets(secrets []Secret) error {
	if len(secrets) == 0 || len(secrets) > maxSecrets {
		return errors.New("a webhook has one secret, or two while one is being replaced")
	}
	for _, secret := range secrets {
		if len(secret) < MinSecret {
			return fmt.Errorf("the secret of a webhook has at least %d characters", MinSecret)
		}
	}
	return nil
}
