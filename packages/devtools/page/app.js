import { useRequests } from './live.js'
import { html, render, useEffect, useState } from './preact.js'
import { Requests } from './requests.js'
import { Story } from './story.js'
import { Delivery, Health, Routes, Runtime, Setup } from './views.js'

const VIEWS = { Requests, Routes, Runtime, Health, Delivery, 'Set-up': Setup }

/** `#/routes`, `#/requests/12` */
function useLocation() {
  const [hash, setHash] = useState(location.hash)
  useEffect(() => {
    const follow = () => setHash(location.hash)
    addEventListener('hashchange', follow)
    return () => removeEventListener('hashchange', follow)
  }, [])
  const [name = '', id] = hash.replace(/^#\/?/, '').split('/')
  return { view: Object.keys(VIEWS).find((view) => view.toLowerCase() === name) ?? 'Requests', id }
}

function App() {
  const { view, id } = useLocation()
  const live = useRequests()
  const View = VIEWS[view]
  useEffect(() => {
    document.title = `${id ? `Request ${id}` : view} – Observability`
  }, [view, id])
  return html`
    <header>
      <nav aria-label="Views">
        ${Object.keys(VIEWS).map(
          (name) => html`<a href=${`#/${name.toLowerCase()}`} aria-current=${name === view ? 'page' : null}>${name}</a>`
        )}
      </nav>
      <p class="connection" role="status">${live.isConnected ? 'live' : 'not connected'}</p>
    </header>
    <main>${id ? html`<${Story} key=${id} id=${id} live=${live} />` : html`<${View} live=${live} />`}</main>
  `
}

render(html`<${App} />`, document.getElementById('app'))
