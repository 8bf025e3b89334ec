package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// List says which part of a list is wanted.
type List struct {
	Limit int    // items in one answer; 0 leaves it to the node
	After string // cursor: Page.Next of the page before
}

// Page is one part of a list.
type Page[T any] struct {
	Items []T
	Next  string // cursor of the next page, "" where this is the last
}

func (l List) query() url.Values {
	q := url.Values{}
	if l.Limit > 0 {
		q.Set("limit", strconv.Itoa(l.Limit))
	}
	if l.After != "" {
		q.Set("after", l.After)
	}
	return q
}

func page[T any](ctx context.Context, c *Client, path string, query url.Values) (*Page[T], error) {
	p := &Page[T]{}
	answer, err := c.Do(ctx, &Request{Method: http.MethodGet, Path: path, Query: query}, &p.Items)
	if err != nil {
		return nil, err
	}
	p.Next = answer.Next
	return p, nil
}

// All walks a list page by page, as long as the loop goes on:
//
//	for agent, err := range client.All(ctx, client.List{}, c.Agents) {
func All[T any](ctx context.Context, l List, get func(context.Context, List) (*Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			p, err := get(ctx, l)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range p.Items {
				if !yield(item, nil) {
					return
				}
			}
			// A cursor that stands still would be a node's fault and a loop without end here.
			if p.Next == "" || p.Next == l.After {
				return
			}
			l.After = p.Next
		}
	}
}

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	out := new(T)
	_, err := c.Do(ctx, &Request{Method: http.MethodGet, Path: path}, out)
	return orNil(out, err)
}

// write sends a replicated write; query and body may be nil.
func write[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any, options ...Option) (*T, error) {
	out := new(T)
	r := &Request{Method: method, Path: path, Query: query, Body: body, Write: true}
	if method == http.MethodPatch {
		r.ContentType = "application/merge-patch+json" // RFC 7396
	}
	_, err := c.Do(ctx, r.with(options), out)
	return orNil(out, err)
}

// repeat sends a POST that does no harm twice and takes no idempotency key.
func repeat[T any](ctx context.Context, c *Client, path string, query url.Values, body any, options ...Option) (*T, error) {
	out := new(T)
	r := &Request{Method: http.MethodPost, Path: path, Query: query, Body: body, Repeatable: true}
	_, err := c.Do(ctx, r.with(options), out)
	return orNil(out, err)
}

func orNil[T any](out *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return out, nil
}

// at joins a path with ids, each as one segment.
func at(path string, ids ...string) string {
	for _, id := range ids {
		path += "/" + url.PathEscape(id)
	}
	return path
}
