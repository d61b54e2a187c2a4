package catalog

import _ "embed"

//go:embed catalog.schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of a catalog, for editors. It finds
// most of what Parse finds; references and what only one of several fields may
// have are Parse's alone.
func Schema() []byte { return append([]byte(nil), schema...) }
