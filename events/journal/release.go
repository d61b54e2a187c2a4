package journal

// Release ends an admission without an event, because what became of it stands
// elsewhere. It makes no system call. Of several calls of Release and Settle for
// the same ref, also at the same time, one returns nil and the others
// ErrSettled; the only other error is ErrClosed, upon which it is still open.
//
// A process that is killed in the call leaves the admission open, or ended. After
// a power loss it may be open again, also with Config.Sync: whoever releases must
// be able to find out again that nothing is left to do.
func (j *Journal) Release(ref Ref) error {
	ref, err := j.claim(ref)
	if err != nil {
		return err
	}
	ref.seg.setState(ref.off, stateDone)
	j.ended(ref)
	return nil
}
