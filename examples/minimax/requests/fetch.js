const API_KEY = "your_minimax_api_key";
const response = await fetch(
"https://api.minimax.chat/v1/text/chatcompletion_v2",
{
method: "POST",
headers: {
"Authorization": `Bearer ${API_KEY}`,
"Content-Type": "application/json",
},
body: JSON.stringify({
model: "abab6.5s-chat",
messages: [
{ role: "user", content: "Hello, MiniMax!" }
],
}),
}
);
const data = await response.json();
console.log(data);
