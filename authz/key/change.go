package key

// Change is one change of a key's record in the store.
type Change struct {
	Workspace, ID string
	// Revision is the store's; it rises with every change of any key.
	Revision uint64
	// Record is the new record, shared and not to be changed; nil where it
	// can't be read, which closes the key until a readable one comes.
	Record *Record
}
