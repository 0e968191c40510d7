// A WebSocket client for the tests: prints what it receives, one JSON line an event.
// usage: node ws_client.js URL [OPTIONS]    OPTIONS: {cert, key, ca: files; send: [texts]; expect: n; headers: {}}
const fs = require('fs');
const WebSocket = require('ws');

const url = process.argv[2];
const given = JSON.parse(process.argv[3] || '{}');
const options = { headers: given.headers || {} };
for (const name of ['cert', 'key', 'ca']) {
  if (given[name]) options[name] = fs.readFileSync(given[name]);
}
const say = (event) => console.log(JSON.stringify(event));
const socket = new WebSocket(url, given.protocols || [], options);
let received = 0;
socket.on('open', () => {
  say({ event: 'open' });
  for (const text of given.send || []) socket.send(text);
  if (given.sendBinary) socket.send(Buffer.from(given.sendBinary, 'hex'));
});
socket.on('message', (data, isBinary) => {
  say({ event: 'message', binary: isBinary, hex: data.toString('hex') });
  received += 1;
  if (given.expect && received >= given.expect) socket.close(1000);
});
socket.on('unexpected-response', (request, response) => {
  say({ event: 'refused', status: response.statusCode });
  process.exit(2);
});
socket.on('error', (error) => { say({ event: 'error', message: error.message }); });
socket.on('close', (code, reason) => {
  say({ event: 'close', code, reason: reason.toString() });
  process.exit(0);
});
process.stdin.resume();
process.stdin.on('end', () => socket.close(1000));
