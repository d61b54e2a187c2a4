package journal

import "errors"

// EachWaiting calls yield for the events that are in the queue, about in the order of
// their settlement: before Run, all that the stream may not have; to a publish of
// Run, all but what that was given. What the disk has spoiled is left to Run. It returns ErrClosed
// where the journal is closed.
func (j *Journal) EachWaiting(yield func(Event)) error {
	j.queue.mu.Lock()
	refs := append([]Ref(nil), j.queue.refs[j.queue.head:]...)
	j.queue.mu.Unlock()
	for _, ref := range refs {
		out, err := ref.outgoing()
		if errors.Is(err, ErrClosed) {
			return err
		}
		if err == nil {
			yield(out.Event)
		}
	}
	return nil
}
