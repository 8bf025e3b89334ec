package api

import (
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
)

const contentTypeJSON = "application/json"

// Headers of the hot path, in their canonical spelling and as bytes, which fasthttp looks up without
// normalizing them first.
var (
	headerCacheControl = []byte(fasthttp.HeaderCacheControl)
	headerIndex        = []byte(wire.HeaderIndex)
	headerLocation     = []byte(fasthttp.HeaderLocation)
	headerTraceparent  = []byte("Traceparent")
	headerRequestID    = []byte(wire.HeaderRequestID)

	valueNoStore = []byte("no-store")
	valueJSON    = []byte(contentTypeJSON)
)
