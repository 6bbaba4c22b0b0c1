//! What is asked of a page in the browser, in its own language. It must not know what is to come of it.

/// How far it is from the darkest to the brightest, and every text that is hard to tell from what is behind it. WCAG 2.2 AA: 4.5 to 1,
/// and 3 to 1 for large text.
pub(super) const SEE: &str = r#"
    const parts = (color) => { const all = color.match(/[\d.]+/g).map(Number); return { rgb: all.slice(0, 3), alpha: all[3] ?? 1 }; };
    const light = (rgb) => {
      const [r, g, b] = rgb.map((of) => of / 255).map((of) => (of <= 0.04045 ? of / 12.92 : ((of + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (one, other) => { const [a, b] = [light(one), light(other)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const { rgb, alpha } = parts(getComputedStyle(at).backgroundColor);
        if (alpha > 0) return rgb;
      }
      return [255, 255, 255];
    };
    const poor = [];
    const check = (element, color, what) => {
      const style = getComputedStyle(element);
      const size = parseFloat(style.fontSize);
      const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
      const is = contrast(parts(color).rgb, behind(element));
      if (is < least) poor.push(`${what}: ${is.toFixed(2)} of ${least}`);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let seen = 0;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.data.trim() || !element.checkVisibility()) continue;
      const style = getComputedStyle(element);
      check(element, element instanceof SVGElement ? style.fill : style.color, node.data.trim().slice(0, 40));
      seen += 1;
    }
    for (const input of document.querySelectorAll("input[placeholder]")) {
      if (input.checkVisibility()) check(input, getComputedStyle(input, "::placeholder").color, input.placeholder);
    }
    return { texts: seen, poor, background: light(parts(getComputedStyle(document.body).backgroundColor).rgb) };
"#;

/// What reaches over the edge of the screen and is not in something that scrolls by itself; and whether the page scrolls sideways.
pub(super) const SCROLLS: &str = r#"
    const wide = document.documentElement.clientWidth;
    const over = [...document.body.querySelectorAll("*")].filter((element) => {
      if (!element.checkVisibility() || element.closest(".wide table, .skip, .unseen, .rollouts thead")) return false;
      const box = element.getBoundingClientRect();
      return box.width > 0 && (box.right > wide + 0.5 || box.left < -0.5);
    });
    const stuck = [...document.querySelectorAll(".wide")].filter((box) => box.scrollWidth > box.clientWidth && box.tabIndex < 0);
    return {
      wide, scrolls: document.documentElement.scrollWidth,
      over: over.map((element) => element.outerHTML.slice(0, 90)).slice(0, 5),
      stuck: stuck.map((element) => element.outerHTML.slice(0, 90)),
    };
"#;

/// The levels of the headings, in their order.
pub(super) const HEADINGS: &str = r#"
    const all = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")];
    return all.filter((heading) => heading.checkVisibility()).map((heading) => Number(heading.tagName[1]));
"#;

/// Where the focus is.
pub(super) const FOCUS: &str = r#"
    const at = document.activeElement;
    if (!at || at === document.body) return null;
    const style = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const inside = box.width > 0 && box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight;
    const all = [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")];
    return { nth: all.indexOf(at), id: at.id, tag: at.tagName, text: at.textContent.trim().slice(0, 60), href: at.getAttribute("href"), outlined, inside };
"#;

/// Which of those places can be gone to at all.
pub(super) const PLACES: &str = r#"
    const all = [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")];
    return all.flatMap((element, nth) => (element.checkVisibility() ? [nth] : []));
"#;
