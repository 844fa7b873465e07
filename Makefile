# `make demo` and `make test` do all the set-up they need, in .venv; later calls skip it.
.PHONY: demo test check clean

demo:
	@tools/setup local gpt plots search
	@.venv/bin/bilevel demo

test: check
	.venv/bin/pytest -n auto --dist loadfile

check:
	@tools/setup local gpt plots search bbob mcp anthropic keyring dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

clean:
	rm -rf .venv
