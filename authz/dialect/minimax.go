package dialect

import (
	"net/http"
	"slices"
	"time"

	"tollgate/authz/key"
)

// minimax has many services behind one key. An answer says in its base_resp whether
// it succeeded. Videos and long texts are tasks, asked for by their ids, files have
// ids and voices have names; all of them live in the upstream's account, so that one
// may only be named by the workspace that made it. What lists the account's files,
// voices or templates is not here, nor what makes objects that the paths here
// couldn't tell apart. The paths for OpenAI's clients are the dialect openai.
var minimax = Dialect{
	Name:  "minimax",
	Style: MiniMax,
	Paths: []Path{
		talk("/v1/text/chatcompletion_v2"),
		textToAudio("/v1/t2a_v2"),
		audioTask("/v1/t2a_async_v2"),
		poll("/v1/query/t2a_async_query_v2"),
		pictures("/v1/image_generation"),
		videoTask("/v1/video_generation"),
		poll("/v1/query/video_generation"),
		music("/v1/music_generation"),
		upload("/v1/files/upload"),
		download("/v1/files/retrieve"),
		download("/v1/files/retrieve_content"),
		voiceClone("/v1/voice_clone"),
	},
}

// Kinds of MiniMax's objects, and for how long it is known whose they are. A file or
// a task that is forgotten is nobody's any more; a voice would be everybody's, as
// those of the service are.
const (
	taskKind, fileKind, voiceKind = "task", "file", "voice"

	taskKept  = 30 * 24 * time.Hour
	fileKept  = 30 * 24 * time.Hour
	voiceKept = 10 * 365 * 24 * time.Hour
)

// succeeded is how an answer of MiniMax says so. One with another code has the
// status 200 all the same.
var succeeded = &Success{Member: "base_resp.status_code", Value: "0"}

// voices are where a request names the voices that speak, one or a mix.
var voices = []Mention{
	{Kind: voiceKind, In: ModelInJSON, Field: "voice_setting.voice_id", Open: true},
	{Kind: voiceKind, In: ModelInJSON, Field: "timber_weights.voice_id", Open: true},
	{Kind: voiceKind, In: ModelInJSON, Field: "timbre_weights.voice_id", Open: true},
	{Kind: voiceKind, In: ModelInJSON, Field: "voice_id", Open: true},
}

func minimaxJSON(pattern string) Path {
	p := fromJSON(pattern)
	p.Success = succeeded
	p.Stored = "mm_file://"
	return p
}

// noTokens is a path whose answer is no text.
func noTokens(pattern string) Path {
	p := minimaxJSON(pattern)
	p.Free = true
	return p
}

// talk is the chat, whose answer may be spoken too. A stream tells its usage without
// being asked.
func talk(pattern string) Path {
	p := minimaxJSON(pattern)
	p.MaxOutput = []string{"max_tokens", "max_completion_tokens", "tokens_to_generate"}
	p.Choices = []string{"n"}
	p.Mentions = voices
	return p
}

func textToAudio(pattern string) Path {
	p := noTokens(pattern)
	p.Units = []Unit{
		{Name: "character", From: InAnswer, Member: "extra_info.usage_characters"},
		{Name: "second", From: InAnswer, Member: "extra_info.audio_length", Per: milliseconds},
	}
	p.Mentions = voices
	return p
}

// milliseconds is how many of them make a second.
const milliseconds = 1000

func audioTask(pattern string) Path {
	p := noTokens(pattern)
	p.Units = []Unit{{Name: "character", From: InAnswer, Member: "usage_characters"}}
	p.Creates = &Object{Kind: taskKind, Member: "task_id", Keep: taskKept}
	p.Mentions = slices.Concat(voices, []Mention{{Kind: fileKind, In: ModelInJSON, Field: "text_file_id"}})
	return p
}

func pictures(pattern string) Path {
	p := noTokens(pattern)
	p.Choices = []string{"n"}
	p.Units = []Unit{{Name: "image", From: EachChoice}}
	return p
}

func videoTask(pattern string) Path {
	p := noTokens(pattern)
	p.Units = []Unit{{Name: "video", From: EachRequest}}
	p.Creates = &Object{Kind: taskKind, Member: "task_id", Keep: taskKept}
	return p
}

// music refuses what names parts of songs that were uploaded or analysed before.
func music(pattern string) Path {
	p := noTokens(pattern)
	p.Units = []Unit{
		{Name: "song", From: EachRequest},
		{Name: "second", From: InAnswer, Member: "extra_info.music_duration", Per: milliseconds},
	}
	p.Refused = []string{"refer_voice", "refer_instrumental", "refer_vocal", "cover_feature_id"}
	return p
}

// poll asks what became of a task. Once it is done the answer names the file with the
// result, which belongs to whom the task belongs to.
func poll(pattern string) Path {
	return Path{
		Method: http.MethodGet, Pattern: pattern, Action: key.Infer, Free: true, Success: succeeded,
		Creates:  &Object{Kind: fileKind, Member: "file_id", Keep: fileKept},
		Mentions: []Mention{{Kind: taskKind, In: ModelInQuery, Field: "task_id"}},
	}
}

// upload takes files for the paths here, and none for others.
func upload(pattern string) Path {
	p := fromForm(pattern)
	p.ModelOptional, p.Free, p.Success = true, true, succeeded
	p.Must = []Must{{
		Field: "purpose", Values: []string{"voice_clone", "prompt_audio", "t2a_async_input"},
		Else: "The form's field purpose must be voice_clone, prompt_audio or t2a_async_input: files for other purposes are not available here.",
	}}
	p.Creates = &Object{Kind: fileKind, Member: "file.file_id", Keep: fileKept}
	return p
}

func download(pattern string) Path {
	return Path{
		Method: http.MethodGet, Pattern: pattern, Action: key.Infer, Free: true, Success: succeeded,
		Mentions: []Mention{{Kind: fileKind, In: ModelInQuery, Field: "file_id"}},
	}
}

// voiceClone makes a voice under the name that the request gives it. It names a model
// only where the voice shall say something at once.
func voiceClone(pattern string) Path {
	p := noTokens(pattern)
	p.ModelOptional = true
	p.Units = []Unit{{Name: "request", From: EachRequest}}
	p.Creates = &Object{Kind: voiceKind, Field: "voice_id", Keep: voiceKept}
	p.Mentions = []Mention{
		{Kind: fileKind, In: ModelInJSON, Field: "file_id"},
		{Kind: fileKind, In: ModelInJSON, Field: "clone_prompt.prompt_audio"},
	}
	return p
}
