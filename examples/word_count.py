"""Counts words, as many workers as you like together.

python examples/word_count.py worker
curl -X POST localhost:6066/lines -d 'to be or not to be'
curl localhost:6066/words/be
"""

from __future__ import annotations

from service_scaffold.apps import StreamApp

app = StreamApp('word_count')
lines = app.topic('lines', value_type=str, partitions=4)
words = app.topic('words', value_type=str, partitions=4)
counts = app.Table('counts', default=int)


@app.agent(lines)
async def split(stream):
    """Send each word to the partition where it is counted."""
    async for line in stream:
        for word in line.lower().split():
            await words.send(key=word, value=word)


@app.agent(words)
async def count(stream):
    """Count."""
    async for word in stream:
        counts[word] += 1


@app.page('/lines')
async def add_line(web, request):
    """Take a line."""
    await lines.send(value=await request.text())
    return web.json({}, status=202)


@app.page('/words/{word}')
@app.table_route(counts, match_info='word')
async def show(web, request, word):
    """Tell how often a word has come, wherever it is counted."""
    return web.json({'word': word, 'count': counts[word]})


if __name__ == '__main__':
    app.main()
